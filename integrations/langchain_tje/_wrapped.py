"""A chat model that stands in front of another and passes for it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tools import BaseTool
from pydantic import Field

#: What LangChain does around every model's own code; the wrapper does it, because the wrapped model's is bypassed.
_TAKEN_OVER = (
    "cache",
    "callbacks",
    "custom_get_token_ids",
    "disable_streaming",
    "metadata",
    "name",
    "output_version",
    "profile",
    "rate_limiter",
    "tags",
    "verbose",
)


def taken_over(inner: BaseChatModel) -> dict[str, Any]:
    """The wrapper's fields that are the wrapped model's."""
    return {name: getattr(inner, name) for name in _TAKEN_OVER if hasattr(inner, name)}


class FrontChatModel(BaseChatModel):
    """Passes for the model behind it in what is asked of a model without calling it: its settings, its tokens."""

    @property
    @abstractmethod
    def _behind(self) -> BaseChatModel:
        """The model that this one passes for."""

    def __getattr__(self, name: str) -> Any:
        """What others ask of a model (``model_name``, ``temperature``) is that model's."""
        try:
            return super().__getattr__(name)  # type: ignore[misc]  # pydantic hides it from type checkers
        except AttributeError:
            if name.startswith("_") or not self.__dict__:  # the fields come all at once
                raise
            return getattr(self._behind, name)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self._behind._get_ls_params(stop=stop, **kwargs)

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return self._behind._get_invocation_params(stop=stop, **kwargs)

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        return self._behind._combine_llm_outputs(llm_outputs)

    def get_token_ids(self, text: str) -> list[int]:
        """The wrapped model's."""
        return self._behind.get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """The wrapped model's."""
        return self._behind.get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """The wrapped model's."""
        return self._behind.get_num_tokens_from_messages(messages, tools)


class WrappedChatModel(FrontChatModel):
    """Passes for ``inner`` in names, traces and caches, too; subclasses say how it is called."""

    inner: BaseChatModel = Field(description="The model that this one passes for.")

    @property
    def _behind(self) -> BaseChatModel:
        return self.inner

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return dict(self.inner._identifying_params)

    @cached_property
    def _serialized(self) -> dict[str, Any]:
        return self.inner._serialized

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The wrapped model's."""
        return self.inner.get_name(suffix, name=name)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return self.inner._get_llm_string(stop=stop, **kwargs)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The wrapped model's own binding, around this model."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return _around(self.inner.bind_tools(tools, **kwargs), self)


def _around(bound: Runnable[Any, Any], wrapper: WrappedChatModel) -> Runnable[Any, Any]:
    """What a model's ``bind_tools`` gave, with the wrapper in the model's place."""
    if isinstance(bound, RunnableBindingBase):
        return bound.model_copy(update={"bound": _around(bound.bound, wrapper)})
    if isinstance(bound, BaseChatModel):  # the model itself, or a copy that holds the tools
        return wrapper.model_copy(update={"inner": bound})
    raise TypeError(
        f"{wrapper.get_name()}.bind_tools gave a {type(bound).__name__}, in which no chat model is to be seen"
    )


def provider_name(model: BaseChatModel, kwargs: dict[str, Any]) -> str | None:
    """The model's name as it is asked for; None where its integration does not say."""
    name = model._get_ls_params(**kwargs).get("ls_model_name")
    return name if isinstance(name, str) else None
