"""``think_just_enough``: what it makes of what, what it makes of what builds that, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index_tje import EntropyGatedLLM, EntropyGatedQueryEngine, think_just_enough

from tests.gates import MODEL
from tests.standin import StandIn
from tje_middleware import EntropyGate
from tje_middleware.branches import SequentialRefinement

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
    gated = think_just_enough(engines.engine(gate=gate), gate=gate, deeper=engines.deep(), aggregate="last")
    assert isinstance(gated, EntropyGatedQueryEngine)
    assert decision_in(gated.query(CERTAIN)).answered_by == "draft"
    assert decision_in(gated.query(UNSURE)).answered_by == "deeper"


def test_the_decorator_takes_each_of_them(llm: Make, deep: LLM, provider: StandIn, gate: EntropyGate) -> None:
    engines = Engines(provider)
    assert isinstance(think_just_enough(gate=gate, deeper=deep)(llm()), EntropyGatedLLM)
    assert isinstance(think_just_enough(gate=gate, deeper=engines.deep())(engines.engine()), EntropyGatedQueryEngine)


def test_a_function_that_builds_an_llm_builds_a_gated_one(llm: Make, deep: LLM, gate: EntropyGate) -> None:
    @think_just_enough(gate=gate, deeper=deep, mode="annotate")
    def make_llm(model: str, *, max_tokens: int = 64) -> LLM:
        """Makes one."""
        return llm(model, max_tokens=max_tokens)

    made = make_llm(MODEL, max_tokens=8)
    assert isinstance(made, EntropyGatedLLM)
    assert (made.mode, made.llm.max_tokens) == ("annotate", 8)
    assert (make_llm.__name__, make_llm.__doc__) == ("make_llm", "Makes one.")


async def test_a_function_that_builds_an_engine_may_be_asynchronous(provider: StandIn, gate: EntropyGate) -> None:
    engines = Engines(provider)

    @think_just_enough(gate=gate, deeper=engines.deep(), aggregate="last")
    async def make_engine() -> RetrieverQueryEngine:
        return engines.engine(gate=gate)

    gated = await make_engine()
    assert isinstance(gated, EntropyGatedQueryEngine)
    assert decision_in(await gated.aquery(UNSURE)).answered_by == "deeper"


@pytest.mark.parametrize("give", [lambda: "Paris", lambda: None], ids=["a text", "nothing"])
def test_a_function_that_answers_is_told_what_to_write_instead(deep: LLM, gate: EntropyGate, give: Any) -> None:
    with pytest.raises(TypeError, match=r"a function that answers, gate the LLM .* gate.decide; .* entropy_route"):
        think_just_enough(give, gate=gate, deeper=deep)()


def test_an_llm_may_check_its_own_answer(llm: Make, gate: EntropyGate, provider: StandIn) -> None:
    gated = think_just_enough(llm(), gate=gate, deeper=SequentialRefinement(steps=1))
    assert gated.chat([ChatMessage(UNSURE)]).message.additional_kwargs["tje"]["answered_by"] == "deeper"
    assert [request["model"] for request in provider.requests] == [MODEL, MODEL]


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
        (lambda _: Flow, "an LLM, a query engine or a function that builds one can be gated, not the class Flow"),
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
    with pytest.raises(TypeError, match="of an LLM is an LLM or a branch, not a RetrieverQueryEngine"):
        think_just_enough(llm(), gate=gate, deeper=engine)
    with pytest.raises(TypeError, match="not an LLM"):
        think_just_enough(engine, gate=gate, deeper=llm())


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
    with pytest.raises(ValueError, match=r"EntropyGatedLLM\(mode='abort'\)"):
        think_just_enough(engines.engine(), gate=gate, deeper=engines.deep(), mode="abort")
    with pytest.raises(ValueError, match="an LLM's answer is one call's"):
        think_just_enough(llm(), gate=gate, deeper=llm("deep"), aggregate="last")
