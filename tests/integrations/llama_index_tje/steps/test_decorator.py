"""``think_just_enough``: what it makes of what, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index_tje import EntropyGatedLLM, EntropyGatedQueryEngine, think_just_enough

from tests.gates import MODEL
from tests.standin import StandIn
from tje_middleware import EntropyGate

from ..query.engines import Engines, decision_in

CERTAIN, UNSURE = "bits=0.5 says_model", "bits=2.5 says_model"
Make = Callable[..., LLM]


def test_an_llm_becomes_a_gated_llm(llm: Make, deep: LLM, gate: EntropyGate, provider: StandIn) -> None:
    gated = think_just_enough(llm(max_tokens=64), gate=gate, deeper=deep, on_branch_error="raise", mode="abort")
    assert isinstance(gated, EntropyGatedLLM)
    assert (gated.mode, gated.on_branch_error) == ("abort", "raise")
    answer = gated.chat([ChatMessage(UNSURE)])
    assert answer.message.content.startswith("deep-0")
    assert [request["model"] for request in provider.requests] == [MODEL, "deep"]


def test_a_query_engine_becomes_a_gated_query_engine(provider: StandIn, gate: EntropyGate) -> None:
    engines = Engines(provider)
    gated = think_just_enough(engines.engine(), gate=gate, deeper=engines.deep(), aggregate="last")
    assert isinstance(gated, EntropyGatedQueryEngine)
    assert decision_in(gated.query(CERTAIN)).answered_by == "draft"
    assert decision_in(gated.query(UNSURE)).answered_by == "deeper"


def test_the_decorator_takes_each_of_them(llm: Make, deep: LLM, provider: StandIn, gate: EntropyGate) -> None:
    engines = Engines(provider)
    assert isinstance(think_just_enough(gate=gate, deeper=deep)(llm()), EntropyGatedLLM)
    assert isinstance(think_just_enough(gate=gate, deeper=engines.deep())(engines.engine()), EntropyGatedQueryEngine)


class Flow(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda llm: FunctionAgent(llm=llm, tools=[]), "a FunctionAgent is gated by its LLM"),
        (lambda llm: SimpleChatEngine.from_defaults(llm=llm), "a SimpleChatEngine is gated by its LLM"),
        (lambda _: Flow(), "a Flow is gated by its LLM"),
        (lambda _: Flow, "an LLM, a query engine or a function can be gated, not the class Flow"),
        (lambda _: "gpt-4o", "can be gated, not 'gpt-4o'"),
        (lambda _: staticmethod(str.upper), "put this decorator under @staticmethod"),
        (lambda _: classmethod(str.upper), "put this decorator under @classmethod"),
    ],
)
def test_what_cannot_be_gated_is_refused(llm: Make, gate: EntropyGate, make: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        think_just_enough(make(llm()), gate=gate, deeper=str.upper)


def test_a_deeper_branch_of_another_kind_is_refused(llm: Make, provider: StandIn, gate: EntropyGate) -> None:
    engine = Engines(provider).engine()
    with pytest.raises(TypeError, match="the deeper branch of an LLM is an LLM, not a RetrieverQueryEngine"):
        think_just_enough(llm(), gate=gate, deeper=engine)
    with pytest.raises(TypeError, match="give the engine's method, query or aquery"):
        think_just_enough(str.upper, gate=gate, deeper=engine)
    for deeper, said in [(llm(), "not a OpenAILike"), (str, "not the class str"), (None, "not None")]:
        with pytest.raises(TypeError, match=f"is a function of the same arguments, {said}"):
            think_just_enough(str.upper, gate=gate, deeper=deeper)


def test_what_is_no_gate_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="gate must be an EntropyGate, not None"):
        think_just_enough(gate=None, deeper=str.upper)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"mode": "stop"}, "mode must be one of 'hold', 'annotate', 'abort', not 'stop'"),
        ({"on_branch_error": "ignore"}, "on_branch_error must be one of 'draft', 'raise', not 'ignore'"),
        ({"aggregate": "best"}, "aggregate must be one of 'worst', 'last', 'pooled', not 'best'"),
    ],
)
def test_unknown_options_are_refused_at_once(gate: EntropyGate, option: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        think_just_enough(gate=gate, deeper=str.upper, **option)


def test_options_that_a_target_has_not_are_refused(llm: Make, provider: StandIn, gate: EntropyGate) -> None:
    engines = Engines(provider)
    with pytest.raises(ValueError, match=r"give the function an EntropyGatedLLM\(mode='abort'\)"):
        think_just_enough(str.upper, gate=gate, deeper=str.upper, mode="abort")
    with pytest.raises(ValueError, match=r"EntropyGatedLLM\(mode='abort'\)"):
        think_just_enough(engines.engine(), gate=gate, deeper=engines.deep(), mode="abort")
    with pytest.raises(ValueError, match="an LLM's answer is one call's"):
        think_just_enough(llm(), gate=gate, deeper=llm("deep"), aggregate="last")
