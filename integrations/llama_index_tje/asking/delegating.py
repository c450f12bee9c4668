"""An LLM around another one, which it stands for wherever LlamaIndex takes an LLM."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.bridge.pydantic import Field, SerializeAsAny
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool
from pydantic import computed_field
from typing_extensions import Self

# What LlamaIndex puts into an LLM after it was made, and what decides how a prompt becomes a request.
_FORWARDED = ("callback_manager", "rate_limiter")
_TAKEN_OVER = (
    "system_prompt",
    "messages_to_prompt",
    "completion_to_prompt",
    "output_parser",
    "pydantic_program_mode",
    "query_wrapper_prompt",
)


class DelegatingLLM(FunctionCallingLLM):
    """Delegates what makes an LLM what it is; how it is called is a subclass's business.

    Its methods are deliberately without LlamaIndex's callbacks: those of the LLM within speak for it, so that no call
    is counted twice.
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
        # Whoever was given the LLM itself may ask it for its model, its temperature, its tokenizer.
        try:
            return super().__getattr__(name)  # type: ignore[misc]  # pydantic's, for private attributes
        except AttributeError:
            if name.startswith("_") or "llm" not in self.__dict__:
                raise
            return getattr(self.llm, name)

    def __repr__(self) -> str:
        # Not pydantic's, which prints keys.
        return f"{type(self).__name__}(llm={named(self.llm)})"

    __str__ = __repr__

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
        """What was set on this LLM holds for those within: query engines put their callback manager into it."""
        for llm in self._within():
            if hasattr(llm, name):
                setattr(llm, name, value)

    def _within(self) -> Sequence[LLM]:
        return [self.llm]

    # Tools, in the form of the LLM within. LlamaIndex looks for the parameter tool_required by its name.

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return prepared_for_tools(
            self.llm,
            tools,
            user_msg=user_msg,
            chat_history=chat_history,
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
            **kwargs,
        )

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


def prepared_for_tools(
    llm: LLM, tools: Sequence[BaseTool], *, chat_history: list[ChatMessage] | None = None, **options: Any
) -> dict[str, Any]:
    """A request that offers tools, in the form of one LLM: the messages, and all else that ``chat`` takes.

    Raises:
        ValueError: the LLM cannot call tools.
    """
    # Some LLMs write the user's message into the very list that they are given.
    history = None if chat_history is None else list(chat_history)
    return tool_caller(llm)._prepare_chat_with_tools_compat(tools, chat_history=history, **options)


def fingerprint_of(*settings: object) -> str:
    """A short word for settings, of which nothing can be read in it."""
    return sha256(repr(settings).encode()).hexdigest()[:16]


def named(llm: LLM) -> str:
    """An LLM by its class and its model."""
    return f"{type(llm).__name__}({llm.metadata.model_name!r})"


def tool_caller(llm: LLM) -> FunctionCallingLLM:
    """An LLM that can call tools.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(llm, FunctionCallingLLM):
        raise ValueError(  # noqa: TRY004  # what LlamaIndex's agents raise of such an LLM
            f"{type(llm).__name__} calls no tools: use a function-calling LLM, or a ReActAgent, which needs none"
        )
    return llm
