"""One request to one LLM: by which of its methods, and in which arguments it is asked for logprobs and usage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.tools.types import BaseTool

from tje_middleware.branches import Message

from ..answers.responses import without_decisions

#: An LLM's ways of being asked; each has an asynchronous and two streaming twins.
Kind = Literal["chat", "complete", "structured_predict"]
#: The arguments of one request.
Settings = Mapping[str, Any]

_OF_RESPONSES = "message.output_text.logprobs"
_LOGPROBS = ("logprobs", "top_logprobs")
_UNNAMED = "unknown"  # LlamaIndex's word for models without a name
# The parameters of LlamaIndex's methods with tools, in their order.
_TOOL_OPTIONS = ("user_msg", "chat_history", "verbose", "allow_parallel_tool_calls", "tool_required")
_CONVERSATION = {"user_msg", "chat_history"}


@dataclass(frozen=True)
class LLMCall:
    """What one LLM is asked in messages, or by a prompt.

    Attributes:
        llm: The LLM.
        kind: The method by which it is asked.
        question: The messages, or the prompt.
        settings: All other arguments.
        finish: Turns what the LLM answers into the answer.
    """

    llm: LLM
    kind: Kind
    question: Any
    settings: Settings = field(default_factory=dict)
    finish: Callable[[Any], Any] | None = None

    #: Whether its stream can be asked for what it costs.
    tells_usage: ClassVar[bool] = True

    def of(self, llm: LLM) -> LLMCall:
        """The same, asked of an LLM in that one's own form."""
        return replace(self, llm=llm)

    def undecided(self) -> LLMCall:
        """The same without the decisions about earlier answers, which some providers would be sent."""
        return replace(self, question=without_decisions(self.question)) if self.kind == "chat" else self

    def instructed(self, instruction: str) -> LLMCall:
        """The same with an instruction at the end of the system message, or in front of the prompt."""
        if self.kind == "complete":
            return replace(self, question=f"{instruction}\n\n{self.question}")
        return self._of_messages(_instructed(self._messages(), instruction))

    def followed_by(self, following: Sequence[Message]) -> LLMCall:
        """The same with messages after the question; a prompt becomes the first message of a conversation."""
        more = [ChatMessage(role=role, content=text) for role, text in following]
        if self.kind != "complete":
            return self._of_messages([*self._messages(), *more])
        return replace(
            self,
            kind="chat",
            question=[ChatMessage(role="user", content=self.question), *more],
            settings={name: value for name, value in self.settings.items() if name != "formatted"},
            finish=chat_response_to_completion_response,
        )

    def _messages(self) -> Sequence[ChatMessage]:
        messages: Sequence[ChatMessage] = self.question
        return messages

    def _of_messages(self, messages: list[ChatMessage]) -> LLMCall:
        return replace(self, question=messages)

    def whole(self) -> Any:
        """The answer."""
        args, kwargs = self._arguments()
        return self._finished(getattr(self.llm, self.kind)(*args, **kwargs))

    async def awhole(self) -> Any:
        """The same on the event loop."""
        args, kwargs = self._arguments()
        return self._finished(await getattr(self.llm, f"a{self.kind}")(*args, **kwargs))

    def stream(self) -> Iterator[Any]:
        """The answer as it is written."""
        args, kwargs = self._arguments()
        chunks: Iterator[Any] = getattr(self.llm, f"stream_{self.kind}")(*args, **kwargs)
        return chunks

    async def astream(self) -> AsyncIterator[Any]:
        """The same on the event loop."""
        args, kwargs = self._arguments()
        chunks: AsyncIterator[Any] = await getattr(self.llm, f"astream_{self.kind}")(*args, **kwargs)
        return chunks

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.question,), dict(self.settings)

    def _finished(self, answer: Any) -> Any:
        return answer if self.finish is None else self.finish(answer)


@dataclass(frozen=True)
class ToolsCall(LLMCall):
    """A question that offers tools, before it has the form of an LLM; the settings are those of ``chat_with_tools``.

    Attributes:
        tools: What is offered.
    """

    tools: Sequence[BaseTool] = ()

    def of(self, llm: LLM) -> LLMCall:
        """The same as a chat with one LLM.

        Raises:
            ValueError: the LLM cannot call tools.
        """
        prepared = prepared_for_tools(llm, self.tools, **self.settings)
        rest = {name: value for name, value in self.settings.items() if name not in _CONVERSATION}

        def validated(answer: Any) -> Any:
            # By this, and nothing else, some LLMs reduce the answer to a single call of tools.
            if not isinstance(answer, ChatResponse):
                return answer
            return tool_caller(llm)._validate_chat_with_tools_response(answer, self.tools, **rest)

        return LLMCall(llm, "chat", prepared.pop("messages"), prepared, validated)


@dataclass(frozen=True)
class StructuredCall(LLMCall):
    """A question whose answer is an object; the question is a prompt template.

    Attributes:
        output_cls: The class of the object.
        variables: What the template is filled in with.
    """

    output_cls: type[Any] = object
    variables: Mapping[str, Any] = field(default_factory=dict)

    tells_usage: ClassVar[bool] = False

    def _messages(self) -> Sequence[ChatMessage]:
        messages: Sequence[ChatMessage] = self.question.format_messages(llm=self.llm, **self.variables)
        return messages

    def _of_messages(self, messages: list[ChatMessage]) -> LLMCall:
        return replace(self, question=ChatPromptTemplate(message_templates=messages), variables={})

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.output_cls, self.question), {"llm_kwargs": dict(self.settings), **self.variables}


def tool_options(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments after the tools of one of LlamaIndex's methods with tools, by name.

    Raises:
        TypeError: there are more than the method has, or one is given twice.
    """
    twice = set(kwargs) & {*_TOOL_OPTIONS[: len(args)]}
    if twice or len(args) > len(_TOOL_OPTIONS):
        what = f"{min(twice)!r} twice" if twice else f"at most {len(_TOOL_OPTIONS)} arguments after the tools"
        raise TypeError(f"LlamaIndex's methods with tools take {'no ' if twice else ''}{what}")
    return {**dict(zip(_TOOL_OPTIONS, args, strict=False)), **kwargs}


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


def _instructed(messages: Sequence[ChatMessage], instruction: str) -> list[ChatMessage]:
    instructed = list(messages)
    place = next((n for n, each in enumerate(instructed) if each.role == MessageRole.SYSTEM), None)
    if place is None:
        return [ChatMessage(role=MessageRole.SYSTEM, content=instruction), *instructed]
    system = instructed[place]
    more = TextBlock(text=f"\n\n{instruction}" if system.content else instruction)
    instructed[place] = system.model_copy(update={"blocks": [*system.blocks, more]})
    return instructed


def with_asking(llm: LLM, settings: Settings, top_k: int) -> dict[str, Any]:
    """A request's settings with the question for logprobs, in the arguments of the LLM's provider.

    An LLM whose class is not known here is asked as OpenAI's chat completions are, which most providers took over.

    Args:
        llm: The LLM.
        settings: The request's; where they ask for more alternatives, so does what is returned.
        top_k: Alternatives a token.
    """
    classes, asked = _provider_classes(type(llm)), settings.get("top_logprobs")
    top_k = max(top_k, asked) if isinstance(asked, int) else top_k
    if "OpenAIResponses" in classes:
        include = [*(settings.get("include") or getattr(llm, "include", None) or ()), _OF_RESPONSES]
        return {**settings, "include": list(dict.fromkeys(include)), "top_logprobs": top_k}
    if "GoogleGenAI" in classes:
        own = {"response_logprobs": True, "logprobs": top_k}
        return {**settings, "generation_config": {**(settings.get("generation_config") or {}), **own}}
    if "OpenAI" in classes and not llm.metadata.is_chat_model:
        return {**settings, "logprobs": top_k}  # completions have one number in the place of both
    return {**settings, "logprobs": True, "top_logprobs": top_k}


def tells_usage_when_asked(llm: LLM, settings: Settings) -> bool:
    """Whether a stream has to be asked for what it costs, and is not yet."""
    return (
        "OpenAI" in _provider_classes(type(llm)) and llm.metadata.is_chat_model and "stream_options" not in settings
    )


def asking_for_itself(llm: LLM) -> bool:
    """Whether an LLM was made to ask for logprobs by its own settings."""
    return bool(getattr(llm, "logprobs", None)) or "logprobs" in _additional(llm)


def without_own_asking(llm: LLM) -> LLM:
    """A copy of an LLM that does not ask for logprobs by itself: LLMs prefer their own settings to a request's."""
    own = {"logprobs": None, "additional_kwargs": without_asking(_additional(llm))}
    return llm.model_copy(update={name: own[name] for name in own.keys() & type(llm).model_fields.keys()})


def asking_of(settings: Settings) -> dict[str, Any]:
    """The part of a request's settings that asks for logprobs; empty where they do not."""
    if not (settings.get("logprobs") or _OF_RESPONSES in (settings.get("include") or ())):
        return {}
    return {name: settings[name] for name in (*_LOGPROBS, "include") if name in settings}


def without_asking(settings: Settings) -> dict[str, Any]:
    """The settings without those that ask for logprobs, for an LLM that is asked anyway."""
    rest = {name: value for name, value in settings.items() if name not in _LOGPROBS}
    included = [each for each in settings.get("include") or () if each != _OF_RESPONSES]
    return {**rest, "include": included} if included else {k: v for k, v in rest.items() if k != "include"}


def model_of(llm: BaseLLM, settings: Settings) -> str | None:
    """The model that a request asks for; None where the LLM has no name for it."""
    named = setting_of(llm, settings, "model") or llm.metadata.model_name
    return named if isinstance(named, str) and named != _UNNAMED else None


def temperature_of(llm: BaseLLM, settings: Settings) -> float | None:
    """A request's sampling temperature; None where nobody says."""
    temperature = setting_of(llm, settings, "temperature")
    return float(temperature) if isinstance(temperature, (int, float)) else None


def limits_of(llm: BaseLLM, settings: Settings) -> list[object]:
    """All that limits the length of a request's answer (tokens), wherever it was set."""
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "n_predict")
    return [setting_of(llm, settings, name) for name in names]


def setting_of(llm: BaseLLM, settings: Settings, name: str) -> object:
    """The value of one setting of a request, looked for in the order in which OpenAI's class looks for it."""
    for place in (_additional(llm), settings):
        if place.get(name) is not None:
            return place[name]
    return getattr(llm, name, None)


def _additional(llm: BaseLLM) -> Mapping[str, Any]:
    own = getattr(llm, "additional_kwargs", None)
    return own if isinstance(own, dict) else {}


@lru_cache
def _provider_classes(kind: type[BaseLLM]) -> frozenset[str]:
    """The names of the integrations' classes that an LLM is of, none of which need be installed."""
    return frozenset(each.__name__ for each in kind.__mro__ if each.__module__.startswith("llama_index.llms."))
