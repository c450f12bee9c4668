"""``think_just_enough``: one line around an existing LLM, query engine or function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, get_args, overload

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.llms import LLM
from llama_index.core.workflow import Workflow

from tje_middleware import EntropyGate
from tje_middleware.calls.aggregation import Aggregate
from tje_middleware.errors import described, require_one_of
from tje_middleware.gate.delivery import Delivery, Mode, OnBranchError

from ..llm.model import EntropyGatedLLM
from ..query import EntropyGatedQueryEngine
from .turn import FunctionRules, gated_function

Function = TypeVar("Function", bound=Callable[..., Any])
#: What goes deeper: an LLM for an LLM, a query engine or a function for a query engine, a function for a function.
Deeper = LLM | BaseQueryEngine | Callable[..., Any]


class Decorator(Protocol):
    """What ``think_just_enough`` is without a target."""

    @overload
    def __call__(self, target: LLM, /) -> EntropyGatedLLM: ...
    @overload
    def __call__(self, target: BaseQueryEngine, /) -> EntropyGatedQueryEngine: ...
    @overload
    def __call__(self, target: Function, /) -> Function: ...


@overload
def think_just_enough(
    target: LLM,
    *,
    gate: EntropyGate,
    deeper: LLM,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> EntropyGatedLLM: ...
@overload
def think_just_enough(
    target: BaseQueryEngine,
    *,
    gate: EntropyGate,
    deeper: BaseQueryEngine | Callable[..., Any],
    aggregate: Aggregate | None = None,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> EntropyGatedQueryEngine: ...
@overload
def think_just_enough(
    target: Function,
    *,
    gate: EntropyGate,
    deeper: Callable[..., Any],
    aggregate: Aggregate | None = None,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> Function: ...
@overload
def think_just_enough(
    *,
    gate: EntropyGate,
    deeper: Deeper,
    aggregate: Aggregate | None = None,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> Decorator: ...
def think_just_enough(
    target: Any = None,
    *,
    gate: EntropyGate,
    deeper: Any,
    aggregate: Aggregate | None = None,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> Any:
    """Answer once; go deeper only where the model itself is unsure.

    Example:
        >>> from llama_index.core.llms import MockLLM
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t")))
        >>> think_just_enough(MockLLM(), deeper=MockLLM(), gate=gate).class_name()
        'entropy_gated_llm'
        >>> import warnings; warnings.simplefilter("ignore")  # a mock has no logprobs, and the gate says so
        >>> llm = MockLLM()  # ask_logprobs(llm, gate=gate), were it a real one
        >>> def reconsider(question, draft):
        ...     return f"not {draft}"
        >>> @think_just_enough(gate=gate, deeper=reconsider)
        ... def answer(question):
        ...     return llm.complete(question).text
        >>> answer("Lyon")
        'not Lyon'

    **Functions** keep their name, signature and kind: plain or asynchronous, of a module or of a class, also a step
    of a workflow (``@step`` above or below this). All LLM calls within are captured and judged together. The LLM of
    such a function must be asked for logprobs, ``ask_logprobs(llm, gate=gate)``; where it was not, the decision says
    so.

    A call belongs to the draft in whose context it is made. Tasks and ``asyncio.to_thread`` have a copy of it; a bare
    thread (``pool.submit``, ``loop.run_in_executor``) has none, and a worker that several drafts share has that of
    the first: run the call in ``contextvars.copy_context()``. An LLM of ``ask_logprobs(llm, gate=gate)`` notices that
    it is called where no draft sees it; the drafts of this gate that may have called it cannot be judged then, and
    say so, also where the call was made for something else at the same time. Without ``gate=gate`` nobody notices,
    and the draft is judged by its other calls.

    Deeper is a function of the same arguments, which may also name ``draft`` (the rejected answer) and
    ``decision``, and is then given them; a plain one under an asynchronous one runs in a thread. A step that waits
    for an event in its deeper function is run anew when the event comes, draft and all: ``entropy_route`` gives the
    deeper branch a step of its own.

    Functions that answer in parts (generators, streaming responses) are refused: nothing is decided before the last
    part, and only EntropyGatedLLM knows how to hold what an LLM streams.

    **Where the decision is.** In a response of an LLM, a query engine, a chat engine or an agent; in an event that
    has a field ``decision``, or whose result is such a response. A text and other values have no place for it: it is
    in ``capture_entropy().decisions``, and among LlamaIndex's events as an EntropyDecisionEvent.

    Args:
        target: An LLM; a query engine; or a function. Left out where this is used as a decorator.
        gate: Decides which answer is taken.
        deeper: Answers where the gate is not satisfied: an LLM for an LLM, a query engine (or a function of the query
            bundle) for a query engine, a function for a function.
        aggregate: Which of several LLM calls speak for a draft: ``"worst"`` (as None), ``"last"`` or ``"pooled"``.
        mode: ``"hold"`` shows nobody a draft before it is accepted; ``"annotate"`` makes the draft the answer, and
            says in it what would have been done; ``"abort"``, of LLMs alone, also cancels a draft's request as soon
            as it is sure to be rejected.
        on_branch_error: What to do when the deeper branch fails: ``"draft"`` returns the draft and says so in the
            decision and in a warning; ``"raise"`` raises.

    Returns:
        An EntropyGatedLLM, an EntropyGatedQueryEngine, or a function of the same signature.

    Raises:
        TypeError: what cannot be gated, a deeper branch of another kind, or a gate that is none.
        ValueError: an option that does not exist, or that this kind of target does not have.
    """
    delivery = Delivery(gate, mode=mode, on_branch_error=on_branch_error)
    if aggregate is not None:
        require_one_of("aggregate", aggregate, get_args(Aggregate))

    def gated(target: Any) -> Any:
        if isinstance(target, LLM):
            return _gated_llm(target, deeper, delivery, aggregate)
        if isinstance(target, BaseQueryEngine):
            return EntropyGatedQueryEngine(
                engine=target,
                deeper=deeper,
                gate=gate,
                aggregate=aggregate or "worst",
                mode=mode,
                on_branch_error=on_branch_error,
            )
        _require_function(target)
        _require_deeper_function(deeper)
        if mode == "abort":
            raise ValueError(
                "mode='abort' stops an LLM while it writes, and of a function only its answer is known: give the "
                "function an EntropyGatedLLM(mode='abort') instead"
            )
        return gated_function(FunctionRules(target, deeper, delivery, aggregate or "worst"))

    return gated if target is None else gated(target)


def _gated_llm(llm: LLM, deeper: object, delivery: Delivery, aggregate: Aggregate | None) -> EntropyGatedLLM:
    if not isinstance(deeper, LLM):
        raise TypeError(f"the deeper branch of an LLM is an LLM, not {described(deeper)}")
    if aggregate is not None:
        raise ValueError("aggregate is for answers that several LLM calls make; an LLM's answer is one call's")
    return EntropyGatedLLM(
        llm=llm,
        deeper=deeper,
        gate=delivery.gate,
        mode=delivery.mode,
        on_branch_error=delivery.on_branch_error,
    )


def _require_function(target: object) -> None:
    if isinstance(target, (staticmethod, classmethod)):
        raise TypeError(f"put this decorator under @{type(target).__name__}, next to the function")
    if isinstance(target, (BaseChatEngine, Workflow)):
        raise TypeError(f"a {type(target).__name__} is gated by its LLM: give it an EntropyGatedLLM")
    if isinstance(target, type) or not callable(target):
        raise TypeError(f"an LLM, a query engine or a function can be gated, not {described(target)}")


def _require_deeper_function(deeper: object) -> None:
    if isinstance(deeper, BaseQueryEngine):
        raise TypeError("the deeper branch of a function is a function: give the engine's method, query or aquery")
    if isinstance(deeper, (type, LLM)) or not callable(deeper):
        raise TypeError(
            f"the deeper branch of a function is a function of the same arguments, not {described(deeper)}"
        )
