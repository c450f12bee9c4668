"""Asking the models inside a chain for logprobs, without touching the chain that was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable

Input = TypeVar("Input")
Output = TypeVar("Output")
AnyRunnable = Runnable[Any, Any]


def ask_logprobs(runnable: Runnable[Input, Output], *, top_k: int = 20) -> Runnable[Input, Output]:
    """The same chain or model, its chat model asked for the logprobs of ``top_k`` alternatives a token.

    Settings are bound last, because LangChain drops them silently when tools or a structured output are bound
    after them. Streaming inside the chain is switched off for that model: an answer that may still be rejected
    must not reach the user, and one kind of event streaming keeps only the last chunk's logprobs.

    Args:
        runnable: A chat model, or a chain that has one where this function can see it: in sequences, bindings,
            fallbacks, branches, parallels, and in the Runnable that a function returns. A model that a function
            calls itself has to be wrapped there.
        top_k: Alternatives a token.

    Returns:
        A new Runnable; the one that was given is unchanged. The same object where no chat model was found.
    """
    asked = _asked(runnable, {"logprobs": True, "top_logprobs": top_k})
    return runnable if asked is None else asked


def asks_for_logprobs(runnable: AnyRunnable) -> bool:
    """Whether the user asks the chain's model for logprobs already, and so expects them in the answer."""
    if isinstance(runnable, RunnableBindingBase):
        return bool(runnable.kwargs.get("logprobs")) or asks_for_logprobs(runnable.bound)
    if isinstance(runnable, RunnableSequence):
        return any(map(asks_for_logprobs, runnable.steps))
    return bool(getattr(runnable, "logprobs", None))


def _asked(runnable: AnyRunnable, settings: Mapping[str, Any]) -> AnyRunnable | None:
    """The runnable with its model asked, or None where there is no model to be seen."""
    if _is_chat_model(runnable):
        return _unstreamed(runnable).bind(**settings)
    for kind, rebuild in _REBUILDERS:
        if isinstance(runnable, kind):
            return rebuild(runnable, settings)
    return None


def _is_chat_model(runnable: AnyRunnable) -> bool:
    # init_chat_model may give a stand-in that becomes a model when it is called; it has a chat model's methods.
    return isinstance(runnable, BaseChatModel) or (
        hasattr(runnable, "bind_tools") and hasattr(runnable, "with_structured_output")
    )


def _unstreamed(model: AnyRunnable) -> AnyRunnable:
    return model.model_copy(update={"disable_streaming": True}) if isinstance(model, BaseChatModel) else model


def _sequence(sequence: RunnableSequence[Any, Any], settings: Mapping[str, Any]) -> AnyRunnable | None:
    """Ask the last step that has a model: its output is the draft."""
    steps = list(sequence.steps)
    for index in reversed(range(len(steps))):
        asked = _asked(steps[index], settings)
        if asked is not None:
            steps[index] = asked
            return RunnableSequence(*steps, name=sequence.name)
    return None


def _binding(binding: RunnableBindingBase[Any, Any], settings: Mapping[str, Any]) -> AnyRunnable | None:
    """Add to what is bound (tools, a response format, stop words) rather than bind underneath it."""
    if _is_chat_model(binding.bound) or isinstance(binding.bound, DynamicRunnable):
        kwargs = {**binding.kwargs, **settings}
        return binding.model_copy(update={"bound": _unstreamed(binding.bound), "kwargs": kwargs})
    inner = _asked(binding.bound, settings)
    return None if inner is None else binding.model_copy(update={"bound": inner})


def _configurable(runnable: DynamicRunnable[Any, Any], settings: Mapping[str, Any]) -> AnyRunnable | None:
    return runnable.bind(**settings) if _is_chat_model(runnable.default) else None


def _fallbacks(chain: RunnableWithFallbacks[Any, Any], settings: Mapping[str, Any]) -> AnyRunnable | None:
    """Ask the first choice alone: the others may be providers that refuse, and are there to answer."""
    first = _asked(chain.runnable, settings)
    return None if first is None else chain.model_copy(update={"runnable": first})


def _branch(branch: RunnableBranch[Any, Any], settings: Mapping[str, Any]) -> AnyRunnable | None:
    choices = [(condition, _asked(choice, settings) or choice) for condition, choice in branch.branches]
    default = _asked(branch.default, settings) or branch.default
    changed = default is not branch.default or any(
        new is not old for (_, new), (_, old) in zip(choices, branch.branches, strict=True)
    )
    return branch.model_copy(update={"branches": choices, "default": default}) if changed else None


def _parallel(parallel: RunnableParallel[Any], settings: Mapping[str, Any]) -> AnyRunnable | None:
    steps = {name: _asked(step, settings) or step for name, step in parallel.steps__.items()}
    changed = any(steps[name] is not step for name, step in parallel.steps__.items())
    return parallel.model_copy(update={"steps__": steps}) if changed else None


def _function(function: RunnableLambda[Any, Any], settings: Mapping[str, Any]) -> AnyRunnable | None:
    """A function whose input decides which Runnable answers: ask the one that it returns."""

    def ask(result: object) -> object:
        return (_asked(result, settings) or result) if isinstance(result, Runnable) else result

    sync = getattr(function, "func", None)
    asynchronous = getattr(function, "afunc", None)
    if any(map(inspect.isgeneratorfunction, (sync,))) or inspect.isasyncgenfunction(asynchronous):
        return None
    return RunnableLambda(
        _then(sync, ask) if sync else _athen(asynchronous, ask),
        _athen(asynchronous, ask) if sync and asynchronous else None,
        name=function.name,
    )


def _then(function: Callable[..., Any], finish: Callable[[object], object]) -> Callable[..., Any]:
    @_signed_like(function)
    def call(*args: Any, **kwargs: Any) -> object:
        return finish(function(*args, **kwargs))

    return call


def _athen(function: Callable[..., Any] | None, finish: Callable[[object], object]) -> Callable[..., Any]:
    assert function is not None

    @_signed_like(function)
    async def call(*args: Any, **kwargs: Any) -> object:
        return finish(await function(*args, **kwargs))

    return call


def _signed_like(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """LangChain reads a function's signature to know whether to hand it the config and the run manager."""

    def sign(wrapper: Callable[..., Any]) -> Callable[..., Any]:
        wrapper.__name__ = getattr(function, "__name__", "function")
        wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return wrapper

    return sign


_REBUILDERS: tuple[tuple[type[AnyRunnable], Callable[[Any, Mapping[str, Any]], AnyRunnable | None]], ...] = (
    (RunnableSequence, _sequence),
    (RunnableBindingBase, _binding),
    (DynamicRunnable, _configurable),
    (RunnableWithFallbacks, _fallbacks),
    (RunnableBranch, _branch),
    (RunnableParallel, _parallel),
    (RunnableLambda, _function),
)
