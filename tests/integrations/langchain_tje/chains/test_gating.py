"""think_just_enough around a chain: what the user gets, and what the provider is asked."""

import json
import math
import warnings
from collections.abc import Callable

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateRunnable, ask_logprobs, think_just_enough
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from tests.integrations.langchain_tje.conftest import make_gate
from tests.releases import needs
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateError, TjeWarning

PROMPT = ChatPromptTemplate.from_messages([("human", "{question}")])
CERTAIN, UNSURE = {"question": "bits=0.5"}, {"question": "bits=2.5"}
Chat = Callable[..., ChatOpenAI]


class Reply(BaseModel):
    """A reply."""

    answer: str


@pytest.fixture
def chain(chat: Chat) -> Runnable:
    return PROMPT | chat()


@pytest.fixture
def deeper(chat: Chat) -> Runnable:
    return PROMPT | chat("deep")


@pytest.fixture
def gated(chain: Runnable, deeper: Runnable, gate: EntropyGate) -> EntropyGateRunnable:
    return think_just_enough(chain, deeper=deeper, gate=gate)


def models_asked(provider: StandIn) -> list[str]:
    return [request["model"] for request in provider.requests]


def test_a_confident_draft_is_the_answer(gated: EntropyGateRunnable, provider: StandIn) -> None:
    answer = gated.invoke(CERTAIN)
    assert answer.response_metadata["tje"]["route"] == "final"
    assert models_asked(provider) == ["standin"]


def test_an_unsure_draft_is_replaced(gated: EntropyGateRunnable, provider: StandIn) -> None:
    answer = gated.invoke(UNSURE)
    assert answer.response_metadata["tje"]["route"] == "deeper"
    assert answer.response_metadata["model_name"] == "deep"
    assert models_asked(provider) == ["standin", "deep"]


def test_the_deeper_branch_is_not_asked_for_logprobs(gated: EntropyGateRunnable, provider: StandIn) -> None:
    gated.invoke(UNSURE)
    assert provider.asked_for_logprobs() == [20, None]


async def test_the_asynchronous_twin_decides_alike(gated: EntropyGateRunnable, provider: StandIn) -> None:
    assert (await gated.ainvoke(CERTAIN)).response_metadata["tje"]["route"] == "final"
    assert (await gated.ainvoke(UNSURE)).response_metadata["tje"]["route"] == "deeper"
    assert models_asked(provider) == ["standin", "standin", "deep"]


@pytest.mark.parametrize("bits", [0.1, 0.9, 1.3, 4.0])
def test_the_decision_holds_the_entropy_of_the_draft(gated: EntropyGateRunnable, bits: float) -> None:
    decision = gated.invoke({"question": f"bits={bits} tokens=7"}).response_metadata["tje"]
    assert decision["signal_value"] == pytest.approx(bits, abs=1e-9)
    assert decision["tokens"] == 7
    assert decision["threshold"] == pytest.approx(1.0)


def test_the_decision_is_plain_data(gated: EntropyGateRunnable) -> None:
    decision = gated.invoke(CERTAIN).response_metadata["tje"]
    assert json.loads(json.dumps(decision)) == decision


@pytest.mark.parametrize("question", [CERTAIN, UNSURE])
def test_logprobs_that_nobody_asked_for_are_taken_out(gated: EntropyGateRunnable, question: dict) -> None:
    assert not gated.invoke(question).response_metadata.get("logprobs")


def test_logprobs_that_the_user_asked_for_stay(chat: Chat, deeper: Runnable, gate: EntropyGate) -> None:
    chain = PROMPT | chat(logprobs=True, top_logprobs=5)
    answer = think_just_enough(chain, deeper=deeper, gate=gate).invoke(CERTAIN)
    assert len(answer.response_metadata["logprobs"]["content"]) == 4


def test_in_a_batch_every_decision_belongs_to_its_own_question(gated: EntropyGateRunnable) -> None:
    bits = [0.03 + 0.05 * i for i in range(60)]
    answers = gated.batch([{"question": f"bits={b:.3f}"} for b in bits], {"max_concurrency": 16})
    for expected, answer in zip(bits, answers, strict=True):
        decision = answer.response_metadata["tje"]
        assert decision["signal_value"] == pytest.approx(expected, abs=1e-9)
        assert decision["route"] == ("final" if expected <= 1 else "deeper")


async def test_in_an_asynchronous_batch_too(gated: EntropyGateRunnable) -> None:
    bits = [0.03 + 0.05 * i for i in range(60)]
    answers = await gated.abatch([{"question": f"bits={b:.3f}"} for b in bits])
    values = [answer.response_metadata["tje"]["signal_value"] for answer in answers]
    assert values == pytest.approx(bits, abs=1e-9)


@pytest.mark.parametrize(("question", "text"), [(CERTAIN, "w0 w1 w2 w3 "), (UNSURE, "w0 w1 w2 w3 ")])
def test_a_stream_never_shows_a_rejected_draft(gated: EntropyGateRunnable, question: dict, text: str) -> None:
    assert "".join(chunk.text for chunk in gated.stream(question)) == text


async def test_in_an_event_stream_the_entropy_is_that_of_all_tokens(gated: EntropyGateRunnable) -> None:
    question = {"question": "bits=0.7 tokens=9"}
    events = [event async for event in gated.astream_events(question, version="v2")]
    (decision,) = [event["data"] for event in events if event["event"] == "on_custom_event"]
    assert (decision["tokens"], decision["signal_value"]) == (9, pytest.approx(0.7, abs=1e-9))


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@needs("langgraph", "1.2.0", "stream_events")
def test_in_the_event_stream_that_loses_logprobs_too(gated: EntropyGateRunnable) -> None:
    graph = StateGraph(dict)
    graph.add_node("ask", lambda state: {"answer": gated.invoke(state)})
    graph.add_edge(START, "ask")
    stream = graph.compile().stream_events({"question": "bits=0.7 tokens=9"}, version="v3")
    decision = stream.output["answer"].response_metadata["tje"]
    assert (decision["tokens"], decision["signal_value"]) == (9, pytest.approx(0.7, abs=1e-9))


def test_a_chain_that_ends_in_a_parser_is_gated_alike(chat: Chat, gate: EntropyGate) -> None:
    chain = PROMPT | chat() | StrOutputParser()
    gated = think_just_enough(chain, deeper=RunnableLambda(lambda _: "the deeper answer"), gate=gate)
    assert gated.invoke(CERTAIN) == "w0 w1 w2 w3 "
    assert gated.invoke(UNSURE) == "the deeper answer"


def test_structured_output_is_gated_alike(chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
    chain = PROMPT | chat().with_structured_output(Reply, method="json_schema")
    gated = think_just_enough(chain, deeper=lambda _: Reply(answer="deeper"), gate=gate)
    assert gated.invoke(CERTAIN) == Reply(answer="yes")
    assert gated.invoke(UNSURE) == Reply(answer="deeper")
    assert provider.asked_for_logprobs() == [20, 20]


def test_whatever_comes_out_the_decision_is_dispatched_as_an_event(chat: Chat, gate: EntropyGate) -> None:
    class Listener(BaseCallbackHandler):
        heard: list[tuple[str, dict]] = []  # noqa: RUF012

        def on_custom_event(self, name: str, data: dict, **_: object) -> None:
            self.heard.append((name, data))

    chain = PROMPT | chat() | StrOutputParser()
    think_just_enough(chain, deeper=lambda _: "", gate=gate).invoke(CERTAIN, {"callbacks": [Listener()]})
    ((name, decision),) = Listener.heard
    assert name == "tje_decision"
    assert decision["route"] == "final"


def test_input_and_output_schema_are_the_chains(chain: Runnable, gated: EntropyGateRunnable) -> None:
    assert gated.get_input_jsonschema() == chain.get_input_jsonschema()
    assert gated.get_output_jsonschema() == chain.get_output_jsonschema()


# Without logprobs


def test_a_model_that_refuses_logprobs_answers_all_the_same(chat: Chat, deeper: Runnable, provider: StandIn) -> None:
    gated = think_just_enough(PROMPT | chat("refuses-logprobs"), deeper=deeper, gate=make_gate("refuses-logprobs"))
    with pytest.warns(TjeWarning, match="logprobs are not supported") as caught:
        decisions = [gated.invoke(CERTAIN).response_metadata["tje"] for _ in range(3)]
    assert {decision["route"] for decision in decisions} == {"deeper"}
    assert {decision["reason"] for decision in decisions} == {"no_logprobs"}
    assert len([each for each in caught if each.category is TjeWarning]) == 1
    assert provider.asked_for_logprobs() == [20, None, None, None, None, None, None]


async def test_a_refusal_is_remembered_asynchronously_too(chat: Chat, deeper: Runnable, provider: StandIn) -> None:
    gated = think_just_enough(PROMPT | chat("refuses-logprobs"), deeper=deeper, gate=make_gate("refuses-logprobs"))
    with pytest.warns(TjeWarning):
        await gated.ainvoke(CERTAIN)
        await gated.ainvoke(CERTAIN)
    assert provider.asked_for_logprobs() == [20, None, None, None, None]


def test_a_model_that_ignores_the_request_is_never_taken_for_confident(chat: Chat, deeper: Runnable) -> None:
    gated = think_just_enough(PROMPT | chat("ignores-logprobs"), deeper=deeper, gate=make_gate("ignores-logprobs"))
    with pytest.warns(TjeWarning, match="without logprobs"):
        decision = gated.invoke(CERTAIN).response_metadata["tje"]
    assert (decision["route"], decision["reason"]) == ("deeper", "no_logprobs")


def test_on_missing_final_accepts_what_cannot_be_judged(chat: Chat, deeper: Runnable, provider: StandIn) -> None:
    gate = make_gate("ignores-logprobs", on_missing="final")
    gated = think_just_enough(PROMPT | chat("ignores-logprobs"), deeper=deeper, gate=gate)
    with pytest.warns(TjeWarning):
        assert gated.invoke(UNSURE).response_metadata["tje"]["route"] == "final"
    assert models_asked(provider) == ["ignores-logprobs"]


def test_on_missing_raise_raises(chat: Chat, deeper: Runnable) -> None:
    gate = make_gate("ignores-logprobs", on_missing="raise")
    gated = think_just_enough(PROMPT | chat("ignores-logprobs"), deeper=deeper, gate=gate)
    with pytest.raises(GateError, match="without logprobs"):
        gated.invoke(CERTAIN)


def test_a_draft_by_another_model_is_not_judged(chat: Chat, deeper: Runnable, gate: EntropyGate) -> None:
    gated = think_just_enough(PROMPT | chat("another"), deeper=deeper, gate=gate)
    with pytest.warns(TjeWarning, match="written by 'another'"):
        decision = gated.invoke(CERTAIN).response_metadata["tje"]
    assert (decision["route"], decision["reason"]) == ("deeper", "other_settings")


def test_a_draft_at_another_temperature_is_not_judged(chat: Chat, deeper: Runnable, gate: EntropyGate) -> None:
    gated = think_just_enough(PROMPT | chat(temperature=0.7), deeper=deeper, gate=gate)
    with pytest.warns(TjeWarning, match=r"temperature 0\.7"):
        assert gated.invoke(CERTAIN).response_metadata["tje"]["reason"] == "other_settings"


def test_drafts_written_side_by_side_are_not_judged(chat: Chat, gate: EntropyGate) -> None:
    both = PROMPT | RunnableParallel(one=chat(), two=chat())
    gated = think_just_enough(both, deeper=lambda _: "deeper", gate=gate)
    with pytest.warns(TjeWarning, match="2 model calls were made"):
        for _ in range(5):
            assert gated.invoke({"question": "bits=0.5 tokens=200"}) == "deeper"


def test_another_call_of_the_chain_does_not_speak_for_a_draft_without_logprobs(chat: Chat) -> None:
    silent, judge = chat("ignores-logprobs"), ask_logprobs(chat("ignores-logprobs-not"))

    def answer(question: dict) -> AIMessage:
        draft = silent.invoke(question["question"])
        judge.invoke(question["question"])
        return draft

    gated = think_just_enough(answer, deeper=lambda _: "deeper", gate=make_gate("ignores-logprobs-not"))
    with pytest.warns(TjeWarning, match="ask_logprobs"):
        assert gated.invoke(CERTAIN) == "deeper"


# Errors


def test_an_error_of_the_draft_is_raised_as_it_is(chat: Chat, deeper: Runnable, gate: EntropyGate) -> None:
    with pytest.raises(Exception, match="the server is broken"):
        think_just_enough(PROMPT | chat("broken"), deeper=deeper, gate=gate).invoke(CERTAIN)


def test_when_the_deeper_branch_fails_the_draft_is_the_answer(chain: Runnable, chat: Chat, gate: EntropyGate) -> None:
    gated = think_just_enough(chain, deeper=PROMPT | chat("broken"), gate=gate)
    with pytest.warns(TjeWarning, match="the deeper branch failed.*the server is broken") as caught:
        answers = [gated.invoke(UNSURE) for _ in range(3)]
    assert [answer.text for answer in answers] == ["w0 w1 w2 w3 "] * 3
    assert {answer.response_metadata["tje"]["reason"] for answer in answers} == {"branch_failed"}
    assert len([each for each in caught if each.category is TjeWarning]) == 1


def test_what_an_error_says_is_not_kept_in_the_decision(chain: Runnable, gate: EntropyGate) -> None:
    def fail(question: dict) -> AIMessage:
        raise ValueError("the answer was: secret")

    with pytest.warns(TjeWarning):
        answer = think_just_enough(chain, deeper=fail, gate=gate).invoke(UNSURE)
    assert "ValueError" in answer.response_metadata["tje"]["detail"]
    assert "secret" not in str(answer.response_metadata)


async def test_on_branch_error_raise_raises(chain: Runnable, chat: Chat, gate: EntropyGate) -> None:
    gated = think_just_enough(chain, deeper=PROMPT | chat("broken"), gate=gate, on_branch_error="raise")
    with pytest.raises(Exception, match="the server is broken"):
        gated.invoke(UNSURE)
    with pytest.raises(Exception, match="the server is broken"):
        await gated.ainvoke(UNSURE)


def test_nothing_warns_while_all_is_well(gated: EntropyGateRunnable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isfinite(gated.invoke(CERTAIN).response_metadata["tje"]["signal_value"])


def test_a_gate_within_the_draft_that_raises_is_not_taken_for_a_refusal(chat: Chat, gate: EntropyGate) -> None:
    strict = make_gate("ignores-logprobs", on_missing="raise")
    inner = think_just_enough(PROMPT | chat("ignores-logprobs"), deeper=lambda _: "", gate=strict)
    with pytest.raises(GateError):
        think_just_enough(inner, deeper=lambda _: "deeper", gate=gate).invoke(CERTAIN)
