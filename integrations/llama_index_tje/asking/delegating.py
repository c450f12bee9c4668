"""An LLM around another one: how it is called, and what it takes over from the one within."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import Field, SerializeAsAny
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools.types import BaseTool
from pydantic import computed_field
from typing_extensions import Self

from .requests import LLMCall, StructuredCall, prepared_for_tools, tool_caller, tool_options

# What LlamaIndex sets on an LLM after it was made.
_FORWARDED = ("callback_manager", "rate_limiter")
# What decides how a prompt becomes a request.
_TAKEN_OVER = (
    "system_prompt",
    "messages_to_prompt",
    "completion_to_prompt",
    "output_parser",
    "pydantic_program_mode",
    "query_wrapper_prompt",
)


class DelegatingLLM(FunctionCallingLLM):
    """An LLM around another one, which it stands for wherever LlamaIndex takes an LLM.

    Its prompts, its metadata and all other attributes are those of the LLM within; a subclass says how a call is
    answered. Its methods lack LlamaIndex's callbacks, which the LLM within has, so that no call is counted twice.
    """

    llm: SerializeAsAny[LLM] = Field(description="The LLM within.", exclude=True, repr=False)

    def __init__(self, **data: Any) -> None:
        llm = data.get("llm")
        if isinstance(llm, LLM):
            taken = {name: getattr(llm, name) for name in _TAKEN_OVER if getattr(llm, name, None) is not None}
            data = {**taken, **data}
        super().__init__(**data)
        for name in _FORWARDED:
            if data.get(name) is not None:
                self._forward(name, data[name])
            else:
                self.__dict__[name] = getattr(self.llm, name, None)

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """LLMs of this kind cannot be made of their serialised form.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"the serialised form of {cls.__name__} has neither its LLMs nor its gate: make it anew")

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _FORWARDED:
            self._forward(name, value)

    def __getattr__(self, name: str) -> Any:
        # Code that expects the LLM within may ask for its model, its temperature, its tokenizer.
        try:
            return super().__getattr__(name)  # type: ignore[misc]  # pydantic's, for private attributes
        except AttributeError:
            if name.startswith("_") or "llm" not in self.__dict__:
                raise
            return getattr(self.llm, name)

    def __repr__(self) -> str:
        # Not pydantic's, which prints keys.
        return f"{type(self).__name__}(llm={named(self.llm)})"

    def __str__(self) -> str:
        return repr(self)

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def answers_by(self) -> dict[str, str]:
        """What its answers depend on, by name and as a fingerprint, by which caches tell LLMs apart."""
        return {"llm": named(self.llm), "fingerprint": fingerprint_of(self.llm.to_dict())}

    @property
    def metadata(self) -> LLMMetadata:
        """The LLM's own."""
        return self.llm.metadata

    def _forward(self, name: str, value: object) -> None:
        """Set it on the LLMs within, too: query engines, for one, set their callback manager on the LLM."""
        for llm in self._within():
            if hasattr(llm, name):
                setattr(llm, name, value)

    def _within(self) -> Sequence[LLM]:
        return [self.llm]

    # How a call is answered

    @abstractmethod
    def _answer(self, call: LLMCall) -> Any:
        """The whole answer."""

    @abstractmethod
    async def _aanswer(self, call: LLMCall) -> Any:
        """The same on the event loop."""

    @abstractmethod
    def _answers(self, call: LLMCall) -> Generator[Any, None, None]:
        """The answer in chunks."""

    @abstractmethod
    def _aanswers(self, call: LLMCall) -> AsyncGenerator[Any, None]:
        """The same on the event loop."""

    # LlamaIndex's ways to call an LLM

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        return cast("ChatResponse", self._answer(LLMCall(self.llm, "chat", messages, kwargs)))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The same on the event loop."""
        return cast("ChatResponse", await self._aanswer(LLMCall(self.llm, "chat", messages, kwargs)))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer messages in chunks."""
        return self._answers(LLMCall(self.llm, "chat", messages, kwargs))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The same on the event loop."""
        return self._aanswers(LLMCall(self.llm, "chat", messages, kwargs))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return cast("CompletionResponse", self._answer(self._completing(prompt, formatted, kwargs)))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The same on the event loop."""
        return cast("CompletionResponse", await self._aanswer(self._completing(prompt, formatted, kwargs)))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt in chunks."""
        return self._answers(self._completing(prompt, formatted, kwargs))

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """The same on the event loop."""
        return self._aanswers(self._completing(prompt, formatted, kwargs))

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Answer with an object, in the LLM's own way: with its provider's schema where it has one."""
        return self._answer(self._predicting(output_cls, prompt, llm_kwargs, prompt_args))

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """The same on the event loop."""
        return await self._aanswer(self._predicting(output_cls, prompt, llm_kwargs, prompt_args))

    def stream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Answer with an object that grows."""
        return self._answers(self._predicting(output_cls, prompt, llm_kwargs, prompt_args))

    async def astream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """The same on the event loop."""
        return self._aanswers(self._predicting(output_cls, prompt, llm_kwargs, prompt_args))

    def _completing(self, prompt: str, formatted: bool, settings: Mapping[str, Any]) -> LLMCall:
        return LLMCall(self.llm, "complete", prompt, {"formatted": formatted, **settings})

    def _predicting(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        settings: Mapping[str, Any] | None,
        variables: Mapping[str, Any],
    ) -> LLMCall:
        return StructuredCall(
            self.llm, "structured_predict", prompt, settings or {}, output_cls=output_cls, variables=variables
        )

    # Tools, in the form of the LLM within. LlamaIndex looks for the parameter tool_required by its name.

    def _prepare_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, tool_required: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        return prepared_for_tools(self.llm, tools, **{"tool_required": tool_required, **tool_options(args, kwargs)})

    def _validate_chat_with_tools_response(
        self, response: ChatResponse, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponse:
        return tool_caller(self.llm)._validate_chat_with_tools_response(response, tools, *args, **kwargs)

    def get_tool_calls_from_response(self, response: ChatResponse, *args: Any, **kwargs: Any) -> list[ToolSelection]:
        """The calls of tools in a response.

        Raises:
            ValueError: there are none, and the caller wants one.
        """
        return tool_caller(self.llm).get_tool_calls_from_response(response, *args, **kwargs)


def fingerprint_of(*settings: object) -> str:
    """A short hash of settings, from which they cannot be read."""
    return sha256(repr(settings).encode()).hexdigest()[:16]


def named(llm: LLM) -> str:
    """An LLM by its class and its model."""
    return f"{type(llm).__name__}({llm.metadata.model_name!r})"
