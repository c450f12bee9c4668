"""The deeper branch of an LLM or of a query engine: whatever the user gives is made one kind of object here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.llms import LLM
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import BaseModel

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.branches import Branch, Message, StreamingBranch
from tje_middleware.branches.base import needs_draft, require_callable, wanted_by
from tje_middleware.calls.request import LogprobsCapabilities
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.errors import described

from .answers.responses import LLMResponse, answer_text, in_one_chunk, spent_on, tool_calls_in
from .asking.asked_llm import AskedLLM
from .asking.requests import LLMCall, Settings, asking_of, model_of, without_asking
from .asking.streams import StreamUsage, astreamed, streamed

# Of an LLM

#: The deeper branch of an LLM.
LLMBranch = Branch["LLMAsk", Any]


def branch_of_llm(deeper: LLM | LLMBranch | None, same: DeeperLLM) -> LLMBranch:
    """The deeper branch of a gated LLM.

    Args:
        deeper: What the user gave: another LLM, a branch, or None for the LLM itself.
        same: The LLM itself, as it is asked again.

    Raises:
        ValueError: settings or an instruction for a branch that asks by itself.
    """
    if deeper is None:
        return same
    if isinstance(deeper, LLM):
        return replace(same, llm=deeper, is_another=True)
    if same.settings or same.instruction:
        raise ValueError(
            f"deeper_settings and instruction are for a deeper LLM, and {type(deeper).__name__} asks by itself"
        )
    return deeper


@dataclass(frozen=True)
class DeeperLLM:
    """An LLM as a deeper branch: it gets the same question, in its own form and with settings of its own.

    Attributes:
        llm: The LLM.
        settings: Arguments of its calls; they win over the question's.
        instruction: For its system message, or in front of its prompt.
        capabilities: Where it is remembered that this LLM refuses logprobs, for callers that want them of both; not
            the gate's, since it may be the LLM that drafts, with other settings.
        is_another: Whether it is another LLM than the one that drafts, and not asked for a model by that one's name.
    """

    llm: LLM
    settings: Settings = field(default_factory=dict)
    instruction: str | None = None
    capabilities: LogprobsCapabilities = field(default_factory=LogprobsCapabilities)
    is_another: bool = False

    needs_draft: ClassVar[bool] = False
    includes_draft: ClassVar[bool] = False

    def run(self, ask: LLMAsk) -> Any:
        """Ask the LLM."""
        return ask.answer(self.call(ask.question))

    async def arun(self, ask: LLMAsk) -> Any:
        """The same on the event loop."""
        return await ask.aanswer(self.call(ask.question))

    def chunks(self, ask: LLMAsk) -> Iterator[Any]:
        """Ask the LLM for its answer as it is written."""
        return ask.answers(self.call(ask.question))

    def achunks(self, ask: LLMAsk) -> AsyncIterator[Any]:
        """The same on the event loop."""
        return ask.aanswers(self.call(ask.question))

    def call(self, question: LLMCall, following: Sequence[Message] = (), **settings: object) -> LLMCall:
        """The request to this LLM for a question, followed by other messages."""
        call = question.of(self.llm).undecided()
        own = {**without_asking(call.settings), **self.settings, **settings}
        if self.is_another and "model" not in self.settings:
            own.pop("model", None)
        call = replace(call, llm=self._asking_for(call.settings), settings=own)
        if self.instruction is not None:
            call = call.instructed(self.instruction)
        return call.followed_by(following) if following else call

    def _asking_for(self, settings: Settings) -> LLM:
        """The LLM as it is asked: a caller who wants logprobs gets the answer without, where it refuses them."""
        given = asking_of(settings)
        if not given:
            return self.llm
        return AskedLLM(llm=self.llm, top_k=1, capabilities=self.capabilities, given=given)


@dataclass
class LLMAsk:
    """A question to a gated LLM whose draft was not accepted.

    Attributes:
        question: What was asked.
        same: The LLM that drafted, as it is asked again.
        decision: Why the draft was not accepted.
        draft: The draft; None where it was stopped.
        usage: What was spent on the deeper answer so far.
        model: The model that was asked last; None before any was, and where it has no name.
    """

    question: LLMCall
    same: DeeperLLM
    decision: GateDecision
    draft: Any = None
    usage: TokenUsage = field(default_factory=TokenUsage)
    model: str | None = None

    def again(self, *following: Message, **settings: object) -> Any:
        """Ask the LLM that drafted once more, with messages after the question."""
        return self.answer(self.same.call(self.question, following, **settings))

    async def aagain(self, *following: Message, **settings: object) -> Any:
        """The same on the event loop."""
        return await self.aanswer(self.same.call(self.question, following, **settings))

    def text_of(self, answer: object, /) -> str:
        """The text of a response; of a call of tools, what it calls; of an object, its JSON."""
        if isinstance(answer, BaseModel) and not isinstance(answer, LLMResponse):
            return answer.model_dump_json()
        if not isinstance(answer, LLMResponse):
            return str(answer)
        called = [f"{name}({arguments})" for name, arguments in tool_calls_in(answer)]
        return "\n".join([*filter(None, [answer_text(answer)]), *called])

    def answer(self, call: LLMCall) -> Any:
        """The answer to a request, counted."""
        self.model = model_of(call.llm, call.settings)
        return self._counted(call.whole())

    async def aanswer(self, call: LLMCall) -> Any:
        """The same on the event loop."""
        self.model = model_of(call.llm, call.settings)
        return self._counted(await call.awhole())

    def answers(self, call: LLMCall) -> Iterator[Any]:
        """The answer to a request as it is written, counted."""
        self.model = model_of(call.llm, call.settings)
        before, usage = self.usage, StreamUsage()
        with closed(streamed(call, self.same.capabilities)) as chunks:
            for chunk in chunks:
                if isinstance(chunk, LLMResponse):
                    self.usage = before + usage.after(chunk)
                yield chunk

    async def aanswers(self, call: LLMCall) -> AsyncIterator[Any]:
        """The same on the event loop."""
        self.model = model_of(call.llm, call.settings)
        before, usage = self.usage, StreamUsage()
        async with aclosed(astreamed(call, self.same.capabilities)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, LLMResponse):
                    self.usage = before + usage.after(chunk)
                yield chunk

    def _counted(self, answer: Any) -> Any:
        if isinstance(answer, LLMResponse):
            self.usage += spent_on(answer)
        return answer


def chunks_of(branch: LLMBranch, ask: LLMAsk) -> Iterator[Any]:
    """A branch's answer as it is written; in one chunk where it has no other way."""
    if isinstance(branch, StreamingBranch):
        yield from branch.chunks(ask)
    else:
        yield _one_chunk(branch.run(ask))


async def achunks_of(branch: LLMBranch, ask: LLMAsk) -> AsyncIterator[Any]:
    """The same on the event loop."""
    if not isinstance(branch, StreamingBranch):
        yield _one_chunk(await branch.arun(ask))
        return
    async with aclosed(branch.achunks(ask)) as chunks:
        async for chunk in chunks:
            yield chunk


def _one_chunk(answer: Any) -> Any:
    return in_one_chunk(answer) if isinstance(answer, LLMResponse) else answer


# Of a query engine

#: What a query engine answers with; LlamaIndex's RESPONSE_TYPE.
EngineAnswer = Response | StreamingResponse | AsyncStreamingResponse | PydanticResponse
#: What a user gives: a query engine; or a function of the query bundle, which may also name ``draft`` (the rejected
#: answer), ``decision`` (why it was rejected) and ``nodes`` (of ``synthesize``), and gives an answer or its text.
EngineDeeper = BaseQueryEngine | Callable[..., Any] | Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Question:
    """What an engine is asked: a query, or to make an answer of nodes that were retrieved for one.

    Attributes:
        bundle: The query.
        nodes: The nodes; None for a query.
        more_nodes: Nodes to name among the answer's sources.
    """

    bundle: QueryBundle
    nodes: list[NodeWithScore] | None = None
    more_nodes: Sequence[NodeWithScore] | None = None

    def put_to(self, engine: BaseQueryEngine) -> EngineAnswer:
        """The engine's answer."""
        if self.nodes is None:
            return engine.query(self.bundle)
        return engine.synthesize(self.bundle, self.nodes, self.more_nodes)

    async def aput_to(self, engine: BaseQueryEngine) -> EngineAnswer:
        """The same on the event loop."""
        if self.nodes is None:
            return await engine.aquery(self.bundle)
        return await engine.asynthesize(self.bundle, self.nodes, self.more_nodes)


@dataclass(frozen=True)
class EngineAsk:
    """A question to a gated query engine whose draft was not accepted.

    Attributes:
        question: What was asked.
        draft: The cheap engine's answer.
        decision: Why it was not accepted.
    """

    question: Question
    draft: EngineAnswer | None
    decision: GateDecision


def branch_of_engine(deeper: EngineDeeper) -> DeeperEngine | DeeperFunction:
    """The deeper branch of a gated query engine.

    Raises:
        TypeError: it is nothing that could answer a query, or a function that could not be called.
    """
    if isinstance(deeper, BaseQueryEngine):
        return DeeperEngine(deeper)
    if isinstance(deeper, BaseLLM):
        raise TypeError(
            f"deeper must be a query engine or a function, not an LLM ({type(deeper).__name__}): make an engine with "
            f"it, such as index.as_query_engine(llm=...), or gate the LLM itself with EntropyGatedLLM"
        )
    if isinstance(deeper, Branch):
        raise TypeError(
            f"{type(deeper).__name__} asks an LLM again: give the engine an EntropyGatedLLM with it as its LLM"
        )
    if isinstance(deeper, type) or not callable(deeper):
        raise TypeError(f"deeper must be a query engine or a function of the query bundle, not {described(deeper)}")
    require_callable(deeper, given="the query bundle", offered=("draft", "decision", "nodes"))
    return DeeperFunction(deeper)


@dataclass(frozen=True)
class DeeperEngine:
    """A query engine as a deeper branch.

    Attributes:
        engine: The engine.
    """

    engine: BaseQueryEngine

    needs_draft: ClassVar[bool] = False
    includes_draft: ClassVar[bool] = False

    def run(self, ask: EngineAsk) -> EngineAnswer:
        """Ask the engine."""
        return ask.question.put_to(self.engine)

    async def arun(self, ask: EngineAsk) -> EngineAnswer:
        """The same on the event loop."""
        return await ask.question.aput_to(self.engine)

    def require(self, question: Question, *, on_loop: bool) -> None:
        """Refuse a question that the engine cannot be asked: that is the caller's mistake, and no failing branch.

        Raises:
            NotImplementedError: it cannot synthesize.
        """
        method = "asynthesize" if on_loop else "synthesize"
        if question.nodes is not None and getattr(type(self.engine), method) is getattr(BaseQueryEngine, method):
            raise NotImplementedError(
                f"the deeper engine ({type(self.engine).__name__}) has no {method}: ask the gated engine by query"
            )


class NoAnswer(TypeError):  # noqa: N818
    """A deeper function gave what is no answer: that is the user's mistake, and no failing branch."""


@dataclass(frozen=True)
class DeeperFunction:
    """A user's function of the query bundle as a deeper branch.

    Attributes:
        function: The function.
    """

    function: Callable[..., Any]

    includes_draft: ClassVar[bool] = False

    @property
    def needs_draft(self) -> bool:
        """Whether it cannot be called without the draft."""
        return needs_draft(self.function)

    def run(self, ask: EngineAsk) -> EngineAnswer:
        """Call the function."""
        return self._answer(self._called(ask))

    async def arun(self, ask: EngineAsk) -> EngineAnswer:
        """The same on the event loop; a function that would block it runs in a thread."""
        if self._is_async:
            return self._answer(await self._called(ask))
        answer = await asyncio.to_thread(self._called, ask)
        return self._answer(await answer if inspect.isawaitable(answer) else answer)

    def require(self, question: Question, *, on_loop: bool) -> None:
        """Refuse to be called where there is no event loop.

        Raises:
            TypeError: it is asynchronous.
        """
        if self._is_async and not on_loop:
            raise TypeError("the deeper branch is an asynchronous function: use aquery or asynthesize")

    @property
    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 (an object whose __call__ is asynchronous)
        )

    def _called(self, ask: EngineAsk) -> Any:
        offered: Mapping[str, Any] = {"draft": ask.draft, "decision": ask.decision, "nodes": ask.question.nodes}
        return self.function(ask.question.bundle, **wanted_by(self.function, offered))

    def _answer(self, given: object) -> EngineAnswer:
        if isinstance(given, str):
            return Response(given)
        if isinstance(given, EngineAnswer):
            return given
        name = getattr(self.function, "__name__", repr(self.function))
        raise NoAnswer(f"the deeper branch {name} must give a response or a text, not {described(given)}")
