"""``think_just_enough``: one line around an existing chain."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, overload

from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.utils import Input, Output

from tje_middleware import EntropyGate
from tje_middleware.gate.delivery import Delivery, Mode, OnBranchError

from ..branches.deeper import ChainBranch, Deeper, as_runnable, is_branch
from .runnable import EntropyGateRunnable

#: What can be gated: a chain, a function that builds one (without parameters), or a function that is one.
Gateable = Runnable[Input, Output] | Callable[..., Any]


@overload
def think_just_enough(
    chain: Runnable[Input, Output],
    *,
    gate: EntropyGate,
    deeper: Deeper | str,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> EntropyGateRunnable[Input, Output]: ...
@overload
def think_just_enough(
    chain: Callable[..., Any],
    *,
    gate: EntropyGate,
    deeper: Deeper | str,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> EntropyGateRunnable[Any, Any]: ...
@overload
def think_just_enough(
    *, gate: EntropyGate, deeper: Deeper | str, mode: Mode = "hold", on_branch_error: OnBranchError = "draft"
) -> Callable[[Gateable[Any, Any]], EntropyGateRunnable[Any, Any]]: ...
def think_just_enough(
    chain: Gateable[Any, Any] | None = None,
    *,
    gate: EntropyGate,
    deeper: Deeper | str,
    mode: Mode = "hold",
    on_branch_error: OnBranchError = "draft",
) -> EntropyGateRunnable[Any, Any] | Callable[[Gateable[Any, Any]], EntropyGateRunnable[Any, Any]]:
    """Answer once; go deeper only where the model itself is unsure.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t")), on_missing="final")
        >>> small, big = FakeListChatModel(responses=["Paris."]), FakeListChatModel(responses=["Paris, France."])
        >>> chain = think_just_enough(small, deeper=big, gate=gate)
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # a fake model has no logprobs
        ...     chain.invoke("The capital of France?").text
        'Paris.'
        >>> @think_just_enough(deeper=big, gate=gate)
        ... def answer(question: str):
        ...     return small
        >>> answer.get_name()
        'answer'

    Args:
        chain: A Runnable; or a function without parameters that builds one; or a function that is one: it takes
            the input and answers, or returns the Runnable that does. Left out where this is used as a decorator.
            A chat model that such a function calls itself must be wrapped in ``ask_logprobs`` there.
        gate: Decides which answer is taken.
        deeper: A Runnable, or a function, of the same input. A function may also name the parameters ``draft`` and
            ``decision``, and is then given the rejected answer and the GateDecision. Or a branch of
            ``tje_middleware.branches``, such as ``SequentialRefinement()``, which asks the chain's model again.
        mode: ``"hold"`` shows nobody a draft before it is accepted; ``"abort"`` also cancels its request as soon as
            it is sure to be rejected; ``"annotate"`` lets drafts pass as they come, never goes deeper, and says in
            the answer what would have been done.
        on_branch_error: What to do when ``deeper`` raises: ``"draft"`` returns the draft and says so in the
            decision and in a warning; ``"raise"`` raises.

    Returns:
        A Runnable of the same input and output. A message that comes out carries the decision in
        ``response_metadata["tje"]``.

    Raises:
        TypeError: what was given is neither a Runnable nor a function, or builds no Runnable; or the deeper function
            requires what it is not given; or no gate.
        ValueError: an option that does not exist; or a branch is to ask a chain in which no chat model is to be seen.
    """
    # As a decorator, too, a wrong gate or branch is refused at once, and not when a chain is given.
    Delivery(gate, mode, on_branch_error)
    checked = deeper if is_branch(deeper) else ChainBranch(as_runnable(deeper)).runnable

    def gated(chain: Gateable[Any, Any]) -> EntropyGateRunnable[Any, Any]:
        return EntropyGateRunnable(
            draft=_as_chain(chain),
            deeper=checked,
            gate=gate,
            mode=mode,
            on_branch_error=on_branch_error,
        )

    return gated if chain is None else gated(chain)


def _as_chain(chain: Gateable[Any, Any]) -> Runnable[Any, Any]:
    if isinstance(chain, Runnable):
        return chain
    if not callable(chain):
        return coerce_to_runnable(chain)
    name = getattr(chain, "__name__", None)
    if not _is_builder(chain):
        return RunnableLambda(chain, name=name)
    built = chain()
    if not isinstance(built, Runnable):
        raise TypeError(
            f"{name} takes no input, so it must build a chain, but it returned a {type(built).__name__}; "
            "a function that is the chain takes the input as its parameter"
        )
    return built


def _is_builder(function: Callable[..., Any]) -> bool:
    """Whether the function can be called without an input."""
    signature = inspect.signature(function)
    try:
        signature.bind()
    except TypeError:
        return False
    return True
