"""Asking the models inside a chain for logprobs, without touching the chain that was given."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.runnables import (
    Runnable,
    RunnableAssign,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableSerializable,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.configurable import DynamicRunnable
from pydantic import Field

from tje_middleware import EntropyGate
from tje_middleware.calls.request import LogprobsCapabilities

from ..messages.visibility import Visibility
from .asked_model import AskedModel

Input = TypeVar("Input")
Output = TypeVar("Output")
AnyRunnable = Runnable[Any, Any]
_HELD = Visibility()


class Visited(NamedTuple):
    """A runnable, rebuilt where that was needed.

    Attributes:
        runnable: The runnable.
        asked: Whether a model in it is now asked for sure.
        several: Whether more than one may write what comes out, side by side.
    """

    runnable: AnyRunnable
    asked: bool
    several: bool = False


def ask_logprobs(runnable: Runnable[Input, Output], *, top_k: int = 20) -> Runnable[Input, Output]:
    """The same chain or model, its chat model asked for the logprobs of ``top_k`` alternatives a token.

    LangChain drops settings silently when tools or a structured output are bound after them; here they are asked for
    in every request, whatever is bound. Streaming inside the chain is switched off for that model: an answer that may
    still be rejected must not reach the user, and one kind of event streaming keeps only the last chunk's logprobs.

    Args:
        runnable: A chat model, or a chain that has one where this function can see it: in sequences, bindings,
            fallbacks, branches, parallels, and in the Runnable that a function returns. A model that a function
            calls itself has to be wrapped there.
        top_k: Alternatives a token.

    Returns:
        A new Runnable; the one that was given is unchanged.

    Raises:
        TypeError: this is no chain in which a chat model is to be seen; an agent or a graph is not.
    """
    if not isinstance(runnable, Runnable):
        raise TypeError(f"ask_logprobs takes a chat model or a chain, not a {type(runnable).__name__}")
    asking = Asking(top_k=top_k).visit(runnable).runnable
    if asking is runnable and not getattr(type(runnable), "asks_by_itself", False):
        raise TypeError(
            f"no chat model is to be seen in this {type(runnable).__name__}: wrap the model before an agent, a graph "
            "or a function is made of it"
        )
    return asking


def asks_for_logprobs(runnable: AnyRunnable) -> bool:
    """Whether the user asks the chain's model for logprobs already, and so expects them in the answer."""
    if isinstance(runnable, RunnableBindingBase):
        return bool(runnable.kwargs.get("logprobs")) or asks_for_logprobs(runnable.bound)
    if isinstance(runnable, RunnableSequence):
        return any(map(asks_for_logprobs, runnable.steps))
    return bool(getattr(runnable, "logprobs", None))


class Asking:
    """Walks a chain down to its models; rebuilds what has to change, and leaves the rest as it is.

    Args:
        top_k: Alternatives a token that models are asked for.
        capabilities: Where models' refusals are remembered.
        visibility: What is shown of drafts.
        gate: The gate whose rejections are to be foreseen, where drafts are stopped.
    """

    def __init__(
        self,
        *,
        top_k: int,
        capabilities: LogprobsCapabilities | None = None,
        visibility: Visibility = _HELD,
        gate: EntropyGate | None = None,
    ) -> None:
        self._visibility = visibility
        capabilities = LogprobsCapabilities() if capabilities is None else capabilities
        self._request: dict[str, Any] = {"top_k": top_k, "capabilities": capabilities}
        self._gate = gate
        self._by_kind: tuple[tuple[type[AnyRunnable], Callable[[Any], Visited]], ...] = (
            (RunnableSequence, self._sequence),
            (RunnableBindingBase, self._binding),
            (RunnableWithFallbacks, self._fallbacks),
            (RunnableBranch, self._branch),
            (RunnableAssign, self._assign),
            (RunnableParallel, self._parallel),
            (RunnableLambda, self._function),
        )

    @classmethod
    def for_gate(cls, gate: EntropyGate, visibility: Visibility) -> Asking:
        """Ask for what this gate's profile was made with, and remember refusals in the gate."""
        return cls(top_k=gate.key.top_k, capabilities=gate.capabilities, visibility=visibility, gate=gate)

    def visit(self, runnable: AnyRunnable) -> Visited:
        """The runnable with its model asked for logprobs, and whether a model was found.

        A chat model that asks by itself already is left alone.
        """
        # Bindings and fallbacks have the methods of the model that they wrap, so these kinds are looked for first.
        for kind, rebuild in self._by_kind:
            if isinstance(runnable, kind):
                return rebuild(runnable)
        if getattr(type(runnable), "asks_by_itself", False):
            return Visited(runnable, asked=True)
        if isinstance(runnable, LateRunnable):
            return self.visit(runnable.late)
        if isinstance(runnable, BaseChatModel):
            return Visited(self.asked_model(runnable), asked=True)
        if isinstance(runnable, DynamicRunnable):
            return self.visit(runnable.default)._replace(runnable=self._late(runnable))
        return (
            Visited(self._late(runnable), asked=True) if is_chat_model(runnable) else Visited(runnable, asked=False)
        )

    def _late(self, runnable: AnyRunnable) -> AnyRunnable:
        return LateRunnable(late=runnable, ask=lambda known: self.visit(known).runnable)

    def asked_model(self, model: BaseChatModel) -> AskedModel:
        """The chat model, made to ask for logprobs; one that asks already is wrapped anew with these options."""
        if isinstance(model, AskedModel):
            model = model.inner
        return AskedModel.of(model, **self._request, visibility=self._visibility, gate=self._gate)

    def _sequence(self, sequence: RunnableSequence[Any, Any]) -> Visited:
        """Ask the last step that has a model: its output is the draft."""
        steps, visited = list(sequence.steps), Visited(sequence, asked=False)
        for index in reversed(range(len(steps))):
            visited = self.visit(steps[index])
            steps[index] = visited.runnable
            if visited.asked:
                break
        return Visited(RunnableSequence(*steps, name=sequence.name), visited.asked, visited.several)

    def _binding(self, binding: RunnableBindingBase[Any, Any]) -> Visited:
        inner = self.visit(binding.bound)
        return inner._replace(runnable=binding.model_copy(update={"bound": inner.runnable}))

    def _fallbacks(self, chain: RunnableWithFallbacks[Any, Any]) -> Visited:
        """Ask every model for logprobs: one that refuses is asked again without them, and does not fall through."""
        first = self.visit(chain.runnable)
        others = [self.visit(other).runnable for other in chain.fallbacks]
        return first._replace(runnable=chain.model_copy(update={"runnable": first.runnable, "fallbacks": others}))

    def _branch(self, branch: RunnableBranch[Any, Any]) -> Visited:
        choices = [(condition, self.visit(choice)) for condition, choice in branch.branches]
        default = self.visit(branch.default)
        rebuilt = branch.model_copy(
            update={
                "branches": [(condition, choice.runnable) for condition, choice in choices],
                "default": default.runnable,
            }
        )
        found = [default, *(choice for _, choice in choices)]
        return Visited(rebuilt, any(each.asked for each in found), any(each.several for each in found))

    def _assign(self, assign: RunnableAssign) -> Visited:
        mapper = self.visit(assign.mapper)
        return mapper._replace(runnable=assign.model_copy(update={"mapper": mapper.runnable}))

    def _parallel(self, parallel: RunnableParallel[Any]) -> Visited:
        steps = {name: self.visit(step) for name, step in parallel.steps__.items()}
        several = sum(step.asked for step in steps.values()) > 1 or any(step.several for step in steps.values())
        if several and self._visibility.is_stopped:
            # With several writers no draft is stopped: a rejection of one answer must not stop the others.
            return Asking(**self._request)._parallel(parallel)
        rebuilt = parallel.model_copy(update={"steps__": {name: step.runnable for name, step in steps.items()}})
        return Visited(rebuilt, any(step.asked for step in steps.values()), several)

    def _function(self, function: RunnableLambda[Any, Any]) -> Visited:
        """A function may return the Runnable that answers; that Runnable is asked when it is returned."""
        sync, asynchronous = getattr(function, "func", None), getattr(function, "afunc", None)
        if not all(each is None or _may_return_runnable(each) for each in (sync, asynchronous)):
            return Visited(function, asked=False)
        wrapped: list[Callable[..., Any]] = []
        # LangChain reads a function's signature to know whether to hand it the config and the run manager.
        if sync is not None:

            @wraps(sync)
            def call(*args: Any, **kwargs: Any) -> object:
                return self._ask_if_runnable(sync(*args, **kwargs))

            wrapped.append(call)
        if asynchronous is not None:

            @wraps(asynchronous)
            async def acall(*args: Any, **kwargs: Any) -> object:
                return self._ask_if_runnable(await asynchronous(*args, **kwargs))

            wrapped.append(acall)
        rebuilt: AnyRunnable = RunnableLambda(*wrapped, name=getattr(function, "name", None))  # type: ignore[call-overload]
        return Visited(rebuilt, asked=False)

    def _ask_if_runnable(self, result: object) -> object:
        return self.visit(result).runnable if isinstance(result, Runnable) else result


def _may_return_runnable(function: Callable[..., Any]) -> bool:
    # A generator yields parts of an answer, and a callable written in C (operator.itemgetter) builds no chains.
    streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return inspect.isroutine(function) and not inspect.isbuiltin(function) and not streams


def named_model(name: str, role: str) -> BaseChatModel:
    """The model that a name such as ``"openai:gpt-4o"`` stands for.

    Args:
        name: As ``init_chat_model`` takes it.
        role: The argument that it was given for, for the error.

    Raises:
        ImportError: langchain, or the provider's package, is not installed.
        ValueError: no such provider.
        TypeError: the name alone makes no model.
    """
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 (langchain-core is enough otherwise)
    except ImportError as error:
        raise ImportError(f"{role}={name!r} needs langchain: pip install langchain") from error
    model = init_chat_model(name)
    if not isinstance(model, BaseChatModel):
        raise TypeError(f"{role}={name!r} is no model by itself: give a name such as 'openai:gpt-4o', or the model")
    return model


class LateRunnable(RunnableSerializable[LanguageModelInput, Any]):
    """A configurable runnable, asked for logprobs once a run's configuration has made a model or chain of it."""

    late: Any = Field(description="A configurable runnable, or a stand-in of init_chat_model.")
    ask: Callable[[AnyRunnable], AnyRunnable] = Field(exclude=True, repr=False, description="Makes its model ask.")

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The name of the configurable runnable."""
        return cast("str", self.late.get_name(suffix, name=name))

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The answer of the model that the configuration names."""
        model, config = self._now(config)
        return model.invoke(input, config, **kwargs)

    async def ainvoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same on the event loop."""
        model, config = self._now(config)
        return await model.ainvoke(input, config, **kwargs)

    def stream(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The stream of the model that the configuration names."""
        model, config = self._now(config)
        yield from model.stream(input, config, **kwargs)

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The same on the event loop."""
        model, config = self._now(config)
        async for chunk in model.astream(input, config, **kwargs):
            yield chunk

    def _now(self, config: RunnableConfig | None) -> tuple[AnyRunnable, RunnableConfig]:
        model, config = resolved(self.late, config)
        return self.ask(model), config


def is_chat_model(runnable: AnyRunnable) -> bool:
    """Whether this is a chat model, or a stand-in of ``init_chat_model`` with a chat model's methods."""
    return isinstance(runnable, BaseChatModel) or (
        hasattr(runnable, "bind_tools") and hasattr(runnable, "with_structured_output")
    )


def resolved(model: AnyRunnable, config: RunnableConfig | None) -> tuple[AnyRunnable, RunnableConfig]:
    """The model that a configurable runnable or a stand-in becomes by this configuration; a model unchanged.

    Raises:
        TypeError: it has a chat model's methods, but neither way of becoming one is known.
    """
    config = ensure_config(config)
    if isinstance(model, DynamicRunnable):
        return model.prepare(config)
    if isinstance(model, BaseChatModel):
        return model, config
    become = getattr(model, "_model", None)  # of init_chat_model's stand-in; LangChain has no public way
    if not callable(become):
        raise TypeError(f"{type(model).__name__} is no chat model that can be asked for logprobs")
    return become(config), config
