"""Functions: as chains, as builders of chains, as deeper branches."""

import sys
from collections.abc import Callable

import pytest
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from langchain_tje import ask_logprobs, think_just_enough

from tests.releases import has
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateDecision, TjeWarning

PROMPT = ChatPromptTemplate.from_messages([("human", "{question}")])
CERTAIN, UNSURE = {"question": "bits=0.5"}, {"question": "bits=2.5"}
Chat = Callable[..., ChatOpenAI]


@pytest.fixture
def chain(chat: Chat) -> Runnable:
    return PROMPT | chat()


def test_a_function_as_deeper_branch_is_given_the_draft_and_the_decision_if_it_names_them(
    chain: Runnable, gate: EntropyGate
) -> None:
    def revise(question: dict, draft: AIMessage, decision: GateDecision) -> AIMessage:
        return AIMessage(f"{question['question']}|{draft.text.strip()}|{decision.reason}")

    answer = think_just_enough(chain, deeper=revise, gate=gate).invoke(UNSURE)
    assert answer.text == "bits=2.5|w0 w1 w2 w3|uncertain"


async def test_an_asynchronous_function_as_deeper_branch(chain: Runnable, gate: EntropyGate) -> None:
    async def revise(question: dict, draft: AIMessage) -> AIMessage:
        return AIMessage(f"revised {draft.text.strip()}")

    answer = await think_just_enough(chain, deeper=revise, gate=gate).ainvoke(UNSURE)
    assert answer.text == "revised w0 w1 w2 w3"


@pytest.mark.parametrize(
    ("deeper", "said"),
    [
        (lambda: "deeper", "takes no argument"),
        (None, "must be a Runnable, a function or the name of a model, not None"),
        (str, "must be a Runnable"),
    ],
)
def test_what_cannot_be_a_deeper_branch_is_refused_at_once(
    chat: Chat, gate: EntropyGate, deeper: object, said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        think_just_enough(chat(), deeper=deeper, gate=gate)


def test_the_name_of_a_model_will_do_as_a_deeper_branch(
    chat: Chat, gate: EntropyGate, provider: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_API_BASE", provider.base_url)
    answer = think_just_enough(chat(), deeper="openai:deep", gate=gate).invoke("bits=2.5")
    assert answer.response_metadata["model_name"] == "deep"


def test_what_is_no_gate_is_refused_by_name(chat: Chat) -> None:
    with pytest.raises(TypeError, match="gate must be an EntropyGate, not None"):
        think_just_enough(chat(), deeper=chat(), gate=None)


def test_the_decorator_on_a_function_that_builds_a_chain(chat: Chat, gate: EntropyGate, provider: StandIn) -> None:
    @think_just_enough(deeper=lambda _: AIMessage("deeper"), gate=gate)
    def answer() -> Runnable:
        return PROMPT | chat()

    assert answer.invoke(CERTAIN).response_metadata["tje"]["route"] == "final"
    assert answer.invoke(UNSURE).text == "deeper"
    assert provider.asked_for_logprobs() == [20, 20]


def test_the_decorator_on_a_function_that_chooses_a_chain(chat: Chat, gate: EntropyGate, provider: StandIn) -> None:
    @think_just_enough(deeper=lambda _: AIMessage("deeper"), gate=gate)
    def answer(question: dict) -> Runnable:
        return PROMPT | chat()

    assert answer.invoke(CERTAIN).response_metadata["tje"]["route"] == "final"
    assert provider.asked_for_logprobs() == [20]


def test_the_decorator_on_a_function_that_calls_its_model(chat: Chat, gate: EntropyGate) -> None:
    model = ask_logprobs(chat())

    @think_just_enough(deeper=lambda _: "deeper", gate=gate)
    def answer(question: str) -> str:
        return model.invoke(question).text.upper()

    assert answer.invoke("bits=0.5") == "W0 W1 W2 W3 "
    assert answer.invoke("bits=2.5") == "deeper"


@pytest.mark.skipif(
    sys.version_info < (3, 11) and not has("langchain-core", "1.4.8"),
    reason="needs Python 3.11 or langchain-core 1.4.8: callbacks that reach a coroutine's own model calls",
)
async def test_the_decorator_on_an_asynchronous_function(chat: Chat, gate: EntropyGate) -> None:
    model = ask_logprobs(chat())

    @think_just_enough(deeper=lambda _: "deeper", gate=gate)
    async def answer(question: str) -> str:
        return (await model.ainvoke(question)).text

    assert await answer.ainvoke("bits=0.5") == "w0 w1 w2 w3 "
    assert await answer.ainvoke("bits=2.5") == "deeper"


def test_a_function_that_hides_its_model_is_told_what_to_do(chat: Chat, gate: EntropyGate) -> None:
    model = chat()

    @think_just_enough(deeper=lambda _: "deeper", gate=gate)
    def answer(question: str) -> str:
        return model.invoke(question).text

    with pytest.warns(TjeWarning, match="ask_logprobs"):
        assert answer.invoke("bits=0.5") == "deeper"


def test_a_builder_that_builds_no_chain_is_refused(gate: EntropyGate) -> None:
    with pytest.raises(TypeError, match="must build a chain"):
        think_just_enough(lambda: "no chain", deeper=lambda _: "", gate=gate)
