"""One question to a gated chat model, which calls the code of both models within its own run, without theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from tje_middleware import GateDecision
from tje_middleware.branches import Message
from tje_middleware.calls.log import ModelCall
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.decision import METADATA_KEY

from ..branches.deeper import as_message
from ..chains.runnable import Prepared
from ..messages.answer import in_words
from ..messages.message_turn import MessageTurn
from .two_models import without_asking


class ChatTurn(MessageTurn):
    """One question to a gated chat model.

    Args:
        prepared: What is the same for every question.
        deeper: The model that the branch asks.
        messages: The question.
        stop: Where an answer is to stop.
        settings: Of the request.
        deeper_settings: The same as the deeper model gets them.
    """

    def __init__(
        self,
        prepared: Prepared,
        deeper: BaseChatModel,
        messages: list[BaseMessage],
        stop: list[str] | None,
        *,
        settings: dict[str, Any],
        deeper_settings: dict[str, Any],
    ) -> None:
        keeps_logprobs = prepared.keeps_logprobs or bool(settings.get("logprobs"))
        super().__init__(prepared.delivery, prepared.visited, keeps_logprobs=keeps_logprobs)
        model = cast("BaseChatModel", prepared.visited.runnable)
        self._draft_call = DirectCall(model, messages, stop, without_asking(settings), self._drafting)
        self._deeper_call = DirectCall(deeper, messages, stop, deeper_settings, self._deepening)

    def draft(self) -> ChatAnswer:
        """The answer of the draft's model."""
        return self._draft_call.whole()

    async def adraft(self) -> ChatAnswer:
        """The same on the event loop."""
        return await self._draft_call.awhole()

    def draft_chunks(self) -> Iterator[ChatAnswer]:
        """The stream of the draft's model."""
        return self._draft_call.chunks()

    def adraft_chunks(self) -> AsyncIterator[ChatAnswer]:
        """The same on the event loop."""
        return self._draft_call.achunks()

    def ask(self, decision: GateDecision) -> ChatAsk:
        """The call of the model that the branch asks."""
        return ChatAsk(self._deeper_call, self.kept, decision)

    def writer_of(self, draft: Any) -> ModelCall:
        """The last call: nothing else can have written the draft."""
        return self._drafting.calls[-1]

    def question_text(self) -> str | None:
        """The conversation so far."""
        return in_words(self._draft_call.messages)


@dataclass(frozen=True)
class ChatAsk:
    """A question to a gated chat model whose draft was not accepted.

    Attributes:
        call: The question as it is asked of the model that the branch asks.
        draft: The draft; None where it was stopped.
        decision: Why it was not accepted.
    """

    call: DirectCall
    draft: ChatAnswer | None
    decision: GateDecision

    def again(self, *following: Message, **settings: object) -> ChatAnswer:
        """Ask the model the conversation, followed by these messages."""
        return self._followed(following, settings).whole()

    async def aagain(self, *following: Message, **settings: object) -> ChatAnswer:
        """The same on the event loop."""
        return await self._followed(following, settings).awhole()

    def text_of(self, answer: ChatAnswer, /) -> str:
        """The text of its message."""
        return str(answer["raw"].text)

    def _followed(self, following: tuple[Message, ...], settings: dict[str, object]) -> DirectCall:
        messages = [*self.call.messages, *map(as_message, following)]
        return replace(self.call, messages=messages, settings={**self.call.settings, **settings})


class SecondModel:
    """The deeper branch that is a chat model: it is asked the same once, and needs no draft for it."""

    needs_draft = False
    includes_draft = False

    def run(self, ask: ChatAsk) -> ChatAnswer:
        """The model's answer."""
        return ask.again()

    async def arun(self, ask: ChatAsk) -> ChatAnswer:
        """The same on the event loop."""
        return await ask.aagain()

    def chunks(self, ask: ChatAsk) -> Iterator[ChatAnswer]:
        """The model's stream."""
        return ask.call.chunks()

    def achunks(self, ask: ChatAsk) -> AsyncIterator[ChatAnswer]:
        """The same on the event loop."""
        return ask.call.achunks()


class ChatAnswer(TypedDict):
    """What a model gave, or a chunk of it, in the form in which a gated call takes answers: the message is ``raw``.

    LangChain merges the generation's info, and the client's output, into the message's metadata only after a model's
    own code; in ``raw`` that is done.
    """

    raw: BaseMessage
    info: dict[str, Any] | None
    others: list[ChatGeneration]
    llm_output: dict[str, Any] | None


@dataclass(frozen=True)
class DirectCall:
    """One request to one model, below its callbacks and its cache; its rate limiter holds.

    Attributes:
        model: The model.
        messages: What it is asked.
        stop: Where it is to stop.
        settings: Of this request.
        capture: Hears of the call, and of what it spends.
    """

    model: BaseChatModel
    messages: list[BaseMessage]
    stop: list[str] | None
    settings: dict[str, Any]
    capture: BaseCallbackHandler

    def whole(self) -> ChatAnswer:
        """The answer; streamed only where the model says by itself that it streams."""
        self._wait()
        with self._heard() as run_id:
            if self.model._should_stream(async_api=False, **self.settings):
                result = generate_from_stream(self.model._stream(self.messages, stop=self.stop, **self.settings))
            else:
                result = self.model._generate(self.messages, stop=self.stop, **self._unstreamed_settings)
            return self._ended(run_id, result)

    async def awhole(self) -> ChatAnswer:
        """The same on the event loop."""
        await self._await()
        with self._heard() as run_id:
            if self.model._should_stream(async_api=True, **self.settings):
                stream = self.model._astream(self.messages, stop=self.stop, **self.settings)
                result = await agenerate_from_stream(stream)
            else:
                result = await self.model._agenerate(self.messages, stop=self.stop, **self._unstreamed_settings)
            return self._ended(run_id, result)

    def chunks(self) -> Iterator[ChatAnswer]:
        """The answer in chunks; in one chunk where the model does not stream."""
        if not self.model._should_stream(async_api=False, **{**self.settings, "stream": True}):
            yield self.whole()
            return
        self._wait()
        kept: list[ChatGenerationChunk] = []
        stream = self.model._stream(self.messages, stop=self.stop, **self.settings)
        with self._heard() as run_id, closed(stream) as chunks:
            for chunk in chunks:
                yield self._came(run_id, chunk, kept)
            self._ended(run_id, _merged(kept))

    async def achunks(self) -> AsyncIterator[ChatAnswer]:
        """The same on the event loop."""
        if not self.model._should_stream(async_api=True, **{**self.settings, "stream": True}):
            yield await self.awhole()
            return
        await self._await()
        kept: list[ChatGenerationChunk] = []
        stream = self.model._astream(self.messages, stop=self.stop, **self.settings)
        with self._heard() as run_id:
            async with aclosed(stream) as chunks:
                async for chunk in chunks:
                    yield self._came(run_id, chunk, kept)
            self._ended(run_id, _merged(kept))

    @property
    def _unstreamed_settings(self) -> dict[str, Any]:
        return {name: value for name, value in self.settings.items() if name != "stream"}

    def _wait(self) -> None:
        if self.model.rate_limiter is not None:
            self.model.rate_limiter.acquire(blocking=True)

    async def _await(self) -> None:
        if self.model.rate_limiter is not None:
            await self.model.rate_limiter.aacquire(blocking=True)

    @contextmanager
    def _heard(self) -> Iterator[UUID]:
        run_id = uuid4()
        metadata = dict(self.model._get_ls_params(stop=self.stop, **self.settings))
        self.capture.on_chat_model_start({}, [], run_id=run_id, metadata=metadata)
        try:
            yield run_id
        except BaseException as error:
            self.capture.on_llm_error(error, run_id=run_id)
            raise

    def _came(self, run_id: UUID, chunk: ChatGenerationChunk, kept: list[ChatGenerationChunk]) -> ChatAnswer:
        kept.append(chunk)
        self.capture.on_llm_new_token(chunk.text, chunk=chunk, run_id=run_id)
        return _opened(chunk)

    def _ended(self, run_id: UUID, result: ChatResult) -> ChatAnswer:
        answer = _opened(result.generations[0], result.generations[1:], result.llm_output)
        first = ChatGeneration(message=answer["raw"], generation_info=answer["info"])
        self.capture.on_llm_end(LLMResult(generations=[[first]], llm_output=result.llm_output), run_id=run_id)
        return answer


def result_of(answer: ChatAnswer) -> ChatResult:
    """The answer in the form of ``_generate``."""
    first = ChatGeneration(message=answer["raw"], generation_info=_shown_info(answer, answer["info"]))
    for other in answer["others"]:
        other.generation_info = _shown_info(answer, other.generation_info)
    return ChatResult(generations=[first, *answer["others"]], llm_output=answer["llm_output"])


def chunk_of(answer: ChatAnswer) -> ChatGenerationChunk:
    """The answer, or a chunk of it, in the form of ``_stream``; the chunk with the decision is the last."""
    message = answer["raw"]
    if isinstance(message, AIMessageChunk):
        if METADATA_KEY in message.response_metadata:
            message = message.model_copy(update={"chunk_position": "last"})
    elif isinstance(message, AIMessage):
        fields = {name: getattr(message, name) for name in AIMessage.model_fields if name != "type"}
        message = AIMessageChunk(**fields, chunk_position="last")
    return ChatGenerationChunk(message=message, generation_info=_shown_info(answer, answer["info"]))


def _opened(
    generation: ChatGeneration, others: list[ChatGeneration] | None = None, llm_output: dict[str, Any] | None = None
) -> ChatAnswer:
    message = generation.message
    metadata = {**(llm_output or {}), **(generation.generation_info or {}), **message.response_metadata}
    return ChatAnswer(
        raw=message.model_copy(update={"response_metadata": metadata}),
        info=generation.generation_info,
        others=others or [],
        llm_output=llm_output,
    )


def _merged(chunks: list[ChatGenerationChunk]) -> ChatResult:
    whole = merge_chat_generation_chunks(chunks)
    if whole is None:
        raise ValueError("the model's stream ended without a chunk")
    return ChatResult(generations=[cast("ChatGeneration", whole)])


def _shown_info(answer: ChatAnswer, info: dict[str, Any] | None) -> dict[str, Any] | None:
    """The generation's info, without its copy of the logprobs where the message has none any more."""
    if info is None or "logprobs" in answer["raw"].response_metadata:
        return info
    return {name: value for name, value in info.items() if name != "logprobs"}
