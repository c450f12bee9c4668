"""Asking the models inside a chain for logprobs, without touching the chain that was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import (
    Runnable,
    RunnableAssign,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBinding, RunnableBindingBase
from langchain_core.runnables.config import merge_configs
from langchain_core.runnables.configurable import DynamicRunnable

from ._model import NOSTREAM, AskingModel, Refusals, unstreamed

Input = TypeVar("Input")
Output = TypeVar("Output")
AnyRunnable = Runnable[Any, Any]


class Visited(NamedTuple):
    """A runnable, rebuilt where that was needed, and whether a model in it is now asked for sure."""

    runnable: AnyRunnable
    asked: bool


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
        A new Runnable; the one that was given is unchanged.
    """
    return ask_visible_models(runnable, top_k=top_k).runnable


def ask_visible_models(runnable: AnyRunnable, *, top_k: int, refusals: Refusals | None = None) -> Visited:
    """``ask_logprobs``, which also tells whether there was a model to be asked, and notes which models refuse."""
    settings = {"logprobs": True, "top_logprobs": top_k}
    return _Asking(settings, {} if refusals is None else refusals).visit(runnable)


def asks_for_logprobs(runnable: AnyRunnable) -> bool:
    """Whether the user asks the chain's model for logprobs already, and so expects them in the answer."""
    if isinstance(runnable, RunnableBindingBase):
        return bool(runnable.kwargs.get("logprobs")) or asks_for_logprobs(runnable.bound)
    if isinstance(runnable, RunnableSequence):
        return any(map(asks_for_logprobs, runnable.steps))
    return bool(getattr(runnable, "logprobs", None))


class _Asking:
    """Walks a chain down to its models; rebuilds what has to change, and leaves the rest as it is."""

    def __init__(self, settings: dict[str, Any], refusals: Refusals) -> None:
        self._settings = settings
        self._refusals = refusals
        self._by_kind: tuple[tuple[type[AnyRunnable], Callable[[Any], Visited]], ...] = (
            (RunnableSequence, self._sequence),
            (RunnableBindingBase, self._binding),
            (DynamicRunnable, self._configurable),
            (RunnableWithFallbacks, self._fallbacks),
            (RunnableBranch, self._branch),
            (RunnableAssign, self._assign),
            (RunnableParallel, self._parallel),
            (RunnableLambda, self._function),
        )

    def visit(self, runnable: AnyRunnable) -> Visited:
        # Bindings, fallbacks and configurables pass for the model they wrap, so kinds come first.
        for kind, rebuild in self._by_kind:
            if isinstance(runnable, kind):
                return rebuild(runnable)
        if _is_chat_model(runnable):
            return self._model(runnable)
        return Visited(runnable, asked=getattr(type(runnable), "asks_by_itself", False))

    def _model(self, model: AnyRunnable, binding: RunnableBindingBase[Any, Any] | None = None) -> Visited:
        kwargs = {**(binding.kwargs if binding else {}), **self._settings}
        config = binding.config if binding else {}
        if not isinstance(model, (BaseChatModel, DynamicRunnable)):
            # A stand-in has no fields yet in which to say what unstreamed() says.
            kwargs["stream"] = False
            config = merge_configs(config, {"tags": [NOSTREAM]})
        asking = AskingModel(
            bound=unstreamed(model), kwargs=kwargs, config=config, settings=self._settings, refusals=self._refusals
        )
        return Visited(asking, asked=True)

    def _sequence(self, sequence: RunnableSequence[Any, Any]) -> Visited:
        """Ask the last step that has a model: its output is the draft."""
        steps, asked = list(sequence.steps), False
        for index in reversed(range(len(steps))):
            steps[index], asked = self.visit(steps[index])
            if asked:
                break
        return Visited(RunnableSequence(*steps, name=sequence.name), asked)

    def _binding(self, binding: RunnableBindingBase[Any, Any]) -> Visited:
        """Add to what is bound (tools, a response format, stop words) rather than bind underneath it."""
        model = _is_chat_model(binding.bound) or isinstance(binding.bound, DynamicRunnable)
        if model and type(binding) is RunnableBinding and not binding.config_factories:
            return self._model(binding.bound, binding)
        inner, asked = self.visit(binding.bound)
        return Visited(binding.model_copy(update={"bound": inner}), asked)

    def _configurable(self, runnable: DynamicRunnable[Any, Any]) -> Visited:
        if _is_chat_model(runnable.default):
            return self._model(runnable)
        return Visited(runnable, asked=False)

    def _fallbacks(self, chain: RunnableWithFallbacks[Any, Any]) -> Visited:
        """Ask the first choice alone: the others may be providers that refuse, and are there to answer."""
        first, asked = self.visit(chain.runnable)
        return Visited(chain.model_copy(update={"runnable": first}), asked)

    def _branch(self, branch: RunnableBranch[Any, Any]) -> Visited:
        choices = [(condition, self.visit(choice)) for condition, choice in branch.branches]
        default = self.visit(branch.default)
        rebuilt = branch.model_copy(
            update={
                "branches": [(condition, choice.runnable) for condition, choice in choices],
                "default": default.runnable,
            }
        )
        return Visited(rebuilt, default.asked or any(choice.asked for _, choice in choices))

    def _assign(self, assign: RunnableAssign) -> Visited:
        mapper, asked = self.visit(assign.mapper)
        return Visited(assign.model_copy(update={"mapper": mapper}), asked)

    def _parallel(self, parallel: RunnableParallel[Any]) -> Visited:
        steps = {name: self.visit(step) for name, step in parallel.steps__.items()}
        rebuilt = parallel.model_copy(update={"steps__": {name: step.runnable for name, step in steps.items()}})
        return Visited(rebuilt, any(step.asked for step in steps.values()))

    def _function(self, function: RunnableLambda[Any, Any]) -> Visited:
        """A function may return the Runnable that answers: ask that one, when it comes."""
        sync, asynchronous = getattr(function, "func", None), getattr(function, "afunc", None)
        if not all(each is None or _may_return_runnable(each) for each in (sync, asynchronous)):
            return Visited(function, asked=False)
        wrapped: list[Callable[..., Any]] = []
        if sync is not None:
            wrapped.append(_then(sync, self._ask_if_runnable))
        if asynchronous is not None:
            wrapped.append(_athen(asynchronous, self._ask_if_runnable))
        name = getattr(function, "name", None)
        rebuilt: AnyRunnable = RunnableLambda(*wrapped, name=name)  # type: ignore[call-overload]
        return Visited(rebuilt, asked=False)

    def _ask_if_runnable(self, result: object) -> object:
        return self.visit(result).runnable if isinstance(result, Runnable) else result


def _is_chat_model(runnable: AnyRunnable) -> bool:
    # init_chat_model may give a stand-in that becomes a model when it is called; it has a chat model's methods.
    return isinstance(runnable, BaseChatModel) or (
        hasattr(runnable, "bind_tools") and hasattr(runnable, "with_structured_output")
    )


def _may_return_runnable(function: Callable[..., Any]) -> bool:
    # Generators yield parts of an answer; what is not written in Python (operator.itemgetter) builds no chains.
    streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return inspect.isroutine(function) and not inspect.isbuiltin(function) and not streams


def _then(function: Callable[..., Any], finish: Callable[[object], object]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> object:
        return finish(function(*args, **kwargs))

    return _signed_like(function, call)


def _athen(function: Callable[..., Any], finish: Callable[[object], object]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> object:
        return finish(await function(*args, **kwargs))

    return _signed_like(function, call)


def _signed_like(function: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """LangChain reads a function's signature to know whether to hand it the config and the run manager."""
    wrapper.__name__ = getattr(function, "__name__", "function")
    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapper
