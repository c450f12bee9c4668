"""``think_just_enough``: one line around an LLM or a query engine, or a decorator of what builds one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, get_args, overload

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.llms import LLM
from llama_index.core.workflow import Workflow

from tje_middleware import EntropyGate
from tje_middleware.branches import Branch
from tje_middleware.calls.aggregation import Aggregate
from tje_middleware.errors import described, require_one_of
from tje_middleware.gate.delivery import Delivery, Mode, OnBranchError

from .branches import EngineDeeper, LLMBranch
from .llm.gated_llm import EntropyGatedLLM
from .query.engine import EntropyGatedQueryEngine

Builder = TypeVar("Builder", bound=Callable[..., Any])
#: What goes deeper: an LLM or a branch for an LLM, a query engine or a function for a query engine.
Deeper = LLM | LLMBranch | EngineDeeper


class Decorator(Protocol):
    """What ``think_just_enough`` is without a target."""

    @overload
    def __call__(self, target: LLM, /) -> EntropyGatedLLM: ...
    @overload
    def __call__(self, target: BaseQueryEngine, /) -> EntropyGatedQueryEngine: ...
    @overload
    def __call__(self, target: Builder, /) -> Builder: ...


@overload
def think_just_enough(
    target: LLM,
    *,
    gate: EntropyGate,
    deeper: LLM | LLMBranch,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> EntropyGatedLLM: ...
@overload
def think_just_enough(
    target: BaseQueryEngine,
    *,
    gate: EntropyGate,
    deeper: EngineDeeper,
    aggregate: Aggregate | None = None,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> EntropyGatedQueryEngine: ...
@overload
def think_just_enough(
    target: Builder,
    *,
    gate: EntropyGate,
    deeper: Deeper,
    aggregate: Aggregate | None = None,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> Builder: ...
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
        >>> @think_just_enough(gate=gate, deeper=MockLLM())
        ... def make_llm(max_tokens):
        ...     return MockLLM(max_tokens=max_tokens)
        >>> make_llm(8).class_name()
        'entropy_gated_llm'

    A function that answers, or a step of a workflow, is not gated by this: gate the LLM that it calls, let it ask
    ``gate.decide``, or put ``entropy_route`` between two steps.

    Args:
        target: An LLM; a query engine; or a function that builds one, plain or asynchronous, which keeps its name and
            signature. Left out where this is used as a decorator.
        gate: Decides which answer is taken.
        deeper: Answers where the gate is not satisfied: for an LLM an LLM or a branch, such as
            ``SequentialRefinement()``; for a query engine a query engine, or a function of the query bundle.
        aggregate: Which of several LLM calls speak for a query engine's draft: ``"worst"`` (as None), ``"last"`` or
            ``"pooled"``.
        mode: ``"hold"`` shows nobody a draft before it is accepted; ``"annotate"`` makes the draft the answer, and
            says in it what would have been done; ``"abort"``, of LLMs alone, also cancels a draft's request as soon
            as it is sure to be rejected.
        on_branch_error: What to do when the deeper branch fails: ``"draft"`` returns the draft and says so in the
            decision and in a warning; ``"raise"`` raises.

    Returns:
        An EntropyGatedLLM, an EntropyGatedQueryEngine, or a function that builds one.

    Raises:
        TypeError: what cannot be gated, a deeper branch of another kind, or a gate that is none.
        ValueError: an option that does not exist, or that this kind of target does not have.
    """
    Delivery(gate, mode, on_branch_error)  # refuses options that do not exist before anything is built
    if aggregate is not None:
        require_one_of("aggregate", aggregate, get_args(Aggregate))

    def gated(built: object) -> EntropyGatedLLM | EntropyGatedQueryEngine:
        if isinstance(built, BaseQueryEngine):
            return EntropyGatedQueryEngine(
                engine=built,
                deeper=deeper,
                gate=gate,
                aggregate=aggregate or "worst",
                mode=mode,
                on_branch_error=on_branch_error,
            )
        if not isinstance(built, LLM):
            raise TypeError(_refusal(built))
        if not isinstance(deeper, (LLM, Branch)):
            raise TypeError(f"the deeper branch of an LLM is an LLM or a branch, not {described(deeper)}")
        if aggregate is not None:
            raise ValueError("aggregate is for answers that several LLM calls make; an LLM's answer is one call's")
        return EntropyGatedLLM(llm=built, deeper=deeper, gate=gate, mode=mode, on_branch_error=on_branch_error)

    def gated_or_builder(target: Any) -> Any:
        if isinstance(target, (LLM, BaseQueryEngine)):
            return gated(target)
        if isinstance(target, (type, staticmethod, classmethod)) or not callable(target):
            raise TypeError(_refusal(target))
        return _builder(target, gated)

    return gated_or_builder if target is None else gated_or_builder(target)


def _builder(function: Callable[..., Any], gated: Callable[[object], Any]) -> Callable[..., Any]:
    """A function that builds an LLM or an engine, with the gate around what it builds."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def abuild(*args: Any, **kwargs: Any) -> Any:
            return gated(await function(*args, **kwargs))

        return abuild

    @functools.wraps(function)
    def build(*args: Any, **kwargs: Any) -> Any:
        return gated(function(*args, **kwargs))

    return build


def _refusal(target: object) -> str:
    if isinstance(target, (staticmethod, classmethod)):
        return f"put this decorator under @{type(target).__name__}, next to the function"
    if isinstance(target, (BaseChatEngine, Workflow)):
        return f"a {type(target).__name__} is gated by its LLM: give it an EntropyGatedLLM"
    return (
        f"an LLM, a query engine or a function that builds one can be gated, not {described(target)}: in a function "
        "that answers, gate the LLM that it calls (EntropyGatedLLM) or ask gate.decide; between two steps of a "
        "workflow, use entropy_route"
    )
