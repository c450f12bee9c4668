"""A chain or model that is known only when it is called, its model asked for logprobs then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.configurable import DynamicRunnable
from pydantic import Field

AnyRunnable = Runnable[Any, Any]


class LateRunnable(RunnableSerializable[LanguageModelInput, Any]):
    """What becomes a model or a chain by its configuration, and is asked for logprobs once it has."""

    late: Any = Field(description="A configurable runnable, or a stand-in of init_chat_model.")
    ask: Callable[[AnyRunnable], AnyRunnable] = Field(exclude=True, repr=False, description="Makes its model ask.")

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The configurable's."""
        return cast("str", self.late.get_name(suffix, name=name))

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The answer of the model that this is now."""
        model, config = self._now(config)
        return model.invoke(input, config, **kwargs)

    async def ainvoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same on the event loop."""
        model, config = self._now(config)
        return await model.ainvoke(input, config, **kwargs)

    def stream(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Its stream."""
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
    """What a configurable runnable or a stand-in is under this configuration; anything else as it is.

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
