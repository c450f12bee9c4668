"""An LLM that is asked for logprobs, and answers without them where its provider refuses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from copy import copy
from typing import Any, ClassVar, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate

from tje_middleware import EntropyGate
from tje_middleware.calls.capabilities import LogprobsCapabilities
from tje_middleware.calls.streams import aclosed
from tje_middleware.errors import described
from tje_middleware.gate.request import DraftRequest

from ..answers.responses import without_decisions
from ..capture.blocks import note_call
from .delegating import DelegatingLLM
from .settings import Asking, Settings, asking_for_itself, model_of, without_own_asking
from .streams import StreamAsking, astreamed, streamed

Answer = TypeVar("Answer")


def ask_logprobs(llm: LLM, *, top_k: int | None = None, gate: EntropyGate | None = None) -> LLM:
    """An LLM whose every request asks for logprobs, by its provider's own arguments.

    For answers to calibrate from, and for LLMs that a gate cannot see: of a query engine of your own code, or within
    a gated function. It stands for the LLM wherever LlamaIndex takes one, and leaves the LLM as it is. Where the
    provider refuses, the answer comes without logprobs, and it is not asked for them again.

    Example:
        >>> from llama_index.core.llms import MockLLM
        >>> str(ask_logprobs(MockLLM()).complete("Hello"))
        'Hello'

    Args:
        llm: The LLM.
        top_k: Alternatives a token; None for as many as the gate needs, or 20.
        gate: The gate that the answers are for: it remembers who refuses, and says so in its decisions.

    Raises:
        TypeError: what was given is no LLM, or no gate.
        ValueError: ``top_k`` is below 1, or not what the gate needs.
    """
    if not isinstance(llm, LLM):
        raise TypeError(f"llm must be a LlamaIndex LLM, not {described(llm)}")
    if gate is not None and not isinstance(gate, EntropyGate):
        raise TypeError(f"gate must be an EntropyGate, not {described(gate)}")
    if isinstance(llm, StructuredLLM):  # it parses what the LLM within answers
        return llm.model_copy(update={"llm": ask_logprobs(llm.llm, top_k=top_k, gate=gate)})
    if gate is None:
        return asked(llm, top_k=20 if top_k is None else top_k, capabilities=LogprobsCapabilities())
    if top_k not in {None, gate.key.top_k}:
        raise ValueError(f"the gate needs top_k={gate.key.top_k}, not {top_k}: leave top_k out")
    return asked(llm, top_k=gate.key.top_k, capabilities=gate.capabilities, noted=True)


def asked(llm: LLM, *, top_k: int, capabilities: LogprobsCapabilities, noted: bool = False) -> AskedLLM:
    """The LLM, asked for logprobs; one that is asked so already as it is."""
    if not isinstance(llm, AskedLLM) or llm.captures:
        return AskedLLM(llm=llm, top_k=top_k, capabilities=capabilities, noted=noted)
    if llm.top_k >= top_k and llm.capabilities is capabilities and llm.noted >= noted:
        return llm
    return AskedLLM(llm=llm.llm, top_k=max(top_k, llm.top_k), capabilities=capabilities, noted=noted)


class AskedLLM(DelegatingLLM):
    """What ``ask_logprobs`` makes.

    A refusal is met here, where nothing but the LLM can have raised it.
    """

    #: Whether it also knows what draft it is asked for, so that nothing may take its place.
    captures: ClassVar[bool] = False

    # Any: pydantic would copy or validate what is shared here on purpose.
    capabilities: Any = Field(
        exclude=True, repr=False, description="The LogprobsCapabilities that remember refusals."
    )
    top_k: int = Field(ge=1, description="Alternatives a token that are asked for.")
    given: Any = Field(
        default=None, exclude=True, repr=False, description="The arguments to ask with; None for the provider's."
    )
    noted: bool = Field(
        default=False, exclude=True, repr=False, description="Whether the gate's drafts hear of calls that none sees."
    )

    _plain: tuple[dict[str, Any], LLM] | None = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for the class."""
        return "tje_asked_llm"

    @property
    def asking(self) -> Asking:
        """The arguments in which the LLM is asked."""
        llm = self.llm
        while isinstance(llm, AskedLLM):
            llm = llm.llm
        return Asking(llm, self.top_k, self.given)

    def request(self, settings: Settings) -> DraftRequest:
        """One request, as far as it concerns what its model refuses."""
        if self.noted:
            note_call(self.capabilities)
        name = model_of(self.llm, settings) or type(self.llm).__name__
        return DraftRequest(self.capabilities, name, has_tools=bool(settings.get("tools")))

    @property
    def plain(self) -> LLM:
        """The LLM within as it is now, without what it asks for by its own settings: they win over a request's."""
        if not asking_for_itself(self.llm):
            return self.llm
        # Kept as long as the LLM stays as it is, for the copy has connections of its own.
        now = {**self.llm.__dict__, **(self.llm.__pydantic_private__ or {})}
        now = {name: copy(value) if isinstance(value, (dict, list)) else value for name, value in now.items()}
        if self._plain is None or self._plain[0] != now:
            self._plain = (now, without_own_asking(self.llm))
        return self._plain[1]

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        plain = without_decisions(messages)
        return self._ask(lambda settings: self.plain.chat(plain, **settings), kwargs)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The same on the event loop."""
        plain = without_decisions(messages)
        return await self._aask(lambda settings: self.plain.achat(plain, **settings), kwargs)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer messages in chunks."""
        plain = without_decisions(messages)
        return self._ask_for_stream(lambda settings: self.plain.stream_chat(plain, **settings), kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The same on the event loop."""
        plain = without_decisions(messages)
        return self._aask_for_stream(lambda settings: self.plain.astream_chat(plain, **settings), kwargs)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return self._ask(lambda settings: self.plain.complete(prompt, formatted=formatted, **settings), kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The same on the event loop."""
        return await self._aask(
            lambda settings: self.plain.acomplete(prompt, formatted=formatted, **settings), kwargs
        )

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt in chunks."""
        return self._ask_for_stream(
            lambda settings: self.plain.stream_complete(prompt, formatted=formatted, **settings), kwargs
        )

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """The same on the event loop."""
        return self._aask_for_stream(
            lambda settings: self.plain.astream_complete(prompt, formatted=formatted, **settings), kwargs
        )

    # Structured output in the LLM's own way: with its provider's schema where it has one

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Answer with an object."""
        return self._ask(
            lambda settings: self.plain.structured_predict(output_cls, prompt, llm_kwargs=settings, **prompt_args),
            llm_kwargs or {},
        )

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """The same on the event loop."""
        return await self._aask(
            lambda settings: self.plain.astructured_predict(output_cls, prompt, llm_kwargs=settings, **prompt_args),
            llm_kwargs or {},
        )

    def stream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Answer with an object that grows."""
        return self._ask_for_stream(
            lambda settings: self.plain.stream_structured_predict(
                output_cls, prompt, llm_kwargs=settings, **prompt_args
            ),
            llm_kwargs or {},
            counted=False,
        )

    async def astream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """The same on the event loop."""
        return self._aask_for_stream(
            lambda settings: self.plain.astream_structured_predict(
                output_cls, prompt, llm_kwargs=settings, **prompt_args
            ),
            llm_kwargs or {},
            counted=False,
        )

    # With logprobs, or without where such a request is refused

    def _ask(self, call: Callable[[dict[str, Any]], Answer], settings: Settings) -> Answer:
        request = self.request(settings)
        if request.may_ask():
            try:
                return call(self.asking.for_logprobs(settings))
            except Exception as error:
                request.note_refusal(error)
        return request.answered(call(dict(settings)))

    async def _aask(self, call: Callable[[dict[str, Any]], Awaitable[Answer]], settings: Settings) -> Answer:
        request = self.request(settings)
        if request.may_ask():
            try:
                return await call(self.asking.for_logprobs(settings))
            except Exception as error:
                request.note_refusal(error)
        return request.answered(await call(dict(settings)))

    def _ask_for_stream(
        self, call: Callable[[dict[str, Any]], Iterator[Answer]], settings: Settings, *, counted: bool = True
    ) -> Generator[Answer, None, None]:
        yield from streamed(call, self._asking_for_stream(settings, counted))

    async def _aask_for_stream(
        self,
        call: Callable[[dict[str, Any]], Awaitable[AsyncIterator[Answer]]],
        settings: Settings,
        *,
        counted: bool = True,
    ) -> AsyncGenerator[Answer, None]:
        async with aclosed(astreamed(call, self._asking_for_stream(settings, counted))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _asking_for_stream(self, settings: Settings, counted: bool) -> StreamAsking:
        wanted = (self.asking, self.request(settings))
        return StreamAsking(self.llm, settings, self.capabilities, usage=counted, logprobs=wanted)
