"""A function whose model calls are gated: the same function, and a deeper one where the calls were unsure."""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.chat_engine.types import StreamingAgentChatResponse

from tje_middleware import GateDecision, MissingLogprobs
from tje_middleware.branches.base import parameters_of, wanted_by
from tje_middleware.calls.aggregation import Aggregate
from tje_middleware.calls.log import ModelCall
from tje_middleware.gate.delivery import Delivery
from tje_middleware.logprobs.evidence import without_advice

from ..answers.places import annotated, call_in, text_of
from ..capture.blocks import OpenDraft, hearing_of_strays
from ..capture.turn import Answer, CapturedTurn

_STRAYS = (
    "a model was called on a thread, or by a task, that came without this draft's context, so that it is not known "
    "for which draft: run the thread in contextvars.copy_context(), or by asyncio.to_thread"
)


class UserCodeTurn(CapturedTurn[Answer], ABC):
    """Judges no draft by a part of its calls.

    Args:
        delivery: The rules.
        aggregate: Which of several model calls speak for the draft.
    """

    def __init__(self, delivery: Delivery, aggregate: Aggregate) -> None:
        super().__init__(delivery, aggregate)
        self._heard: OpenDraft | None = None

    @contextmanager
    def _as_draft(self) -> Iterator[None]:
        """What is called in the block is called for the draft; what may have been is heard of."""
        with (
            super()._as_draft(),
            hearing_of_strays(self._drafting, self.delivery.gate.capabilities) as self._heard,
        ):
            yield

    @property
    def _has_strays(self) -> bool:
        return self._heard is not None and self._heard.has_strays

    def writer_of(self, draft: Answer) -> ModelCall:
        """The evidence of all calls that the draft was made by; none where it is not known which these are."""
        speaking = super().writer_of(draft)
        return replace(speaking, logprobs=MissingLogprobs(_STRAYS)) if self._has_strays else speaking

    def was_asked(self, draft: Answer) -> bool:
        """Whether the models that may have made it were asked, as far as they are known."""
        return not self._has_strays and super().was_asked(draft)

    def remark(self, draft: Answer) -> str | None:
        """By which rule the calls were aggregated, where there were several and they are known."""
        return None if self._has_strays else super().remark(draft)


Function = Callable[..., Any]

_NOT_ASKED = "give the function an LLM that asks for them, ask_logprobs(llm, gate=gate), unless the model refuses"
_STREAMS = (StreamingResponse, AsyncStreamingResponse, StreamingAgentChatResponse)
_NO_STREAM = (
    "{} gives its answer in parts, of which none is decided about before the last: gate the LLM that it streams "
    "(EntropyGatedLLM), or let it return the whole answer"
)


@dataclass(frozen=True)
class FunctionRules:
    """What is the same for every call of one gated function.

    Attributes:
        function: Drafts.
        deeper: Answers where the gate is not satisfied.
        delivery: The rules.
        aggregate: Which of several model calls speak for the draft.
    """

    function: Function
    deeper: Function
    delivery: Delivery
    aggregate: Aggregate


def gated_function(rules: FunctionRules) -> Function:
    """The function with the gate around it, of the same name, signature and kind.

    Raises:
        TypeError: the function answers in parts, or the deeper one cannot be called where it is.
    """
    _refuse_streams(rules.function)
    _refuse_streams(rules.deeper)
    function = rules.function
    if is_asynchronous(function):

        @functools.wraps(function)
        async def agated(*args: Any, **kwargs: Any) -> Any:
            return await _FunctionTurn(rules, args, kwargs).aanswer()

        return agated
    if is_asynchronous(rules.deeper):
        raise TypeError(
            f"{_name(rules.deeper)} is asynchronous and {_name(function)} is not: make both asynchronous functions"
        )

    @functools.wraps(function)
    def gated(*args: Any, **kwargs: Any) -> Any:
        return _FunctionTurn(rules, args, kwargs).answer()

    return gated


def is_asynchronous(function: Function) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))


class _NoWholeAnswer(TypeError):  # noqa: N818
    """A function's answer is still to come, so that no model has written it yet."""


class _FunctionTurn(UserCodeTurn[Any]):
    """One call of a gated function."""

    def __init__(self, rules: FunctionRules, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__(rules.delivery, rules.aggregate)
        self._rules = rules
        self._args = args
        self._kwargs = kwargs

    def draft(self) -> Any:
        """Call the function."""
        with self._as_draft():
            return _whole(self._rules.function(*self._args, **self._kwargs), self._rules.function)

    async def adraft(self) -> Any:
        """The same on the event loop."""
        with self._as_draft():
            return _whole(await self._rules.function(*self._args, **self._kwargs), self._rules.function)

    def deeper(self, decision: GateDecision) -> Any:
        """Call the deeper function."""
        with self._as_deeper():
            answer = self._rules.deeper(*self._args, **self._deeper_arguments(decision))
            return _whole(answer, self._rules.deeper)

    async def adeeper(self, decision: GateDecision) -> Any:
        """The same on the event loop; a function that would block it runs in a thread."""
        arguments, deeper = self._deeper_arguments(decision), self._rules.deeper
        with self._as_deeper():
            if is_asynchronous(deeper):
                return _whole(await deeper(*self._args, **arguments), deeper)
            answer = await asyncio.to_thread(deeper, *self._args, **arguments)
            # A lambda around an asynchronous function is none itself.
            return _whole(await answer if inspect.isawaitable(answer) else answer, deeper)

    def require_deeper(self, *, on_loop: bool) -> None:
        """Refuse a deeper function that takes other arguments.

        Raises:
            TypeError: it cannot be called with the function's own.
        """
        deeper = self._rules.deeper
        try:
            inspect.signature(deeper).bind(*self._args, **self._deeper_arguments(cast("GateDecision", self.decision)))
        except ValueError:  # written in C, and says nothing of its parameters
            return
        except TypeError as error:
            raise TypeError(
                f"{_name(deeper)} is called with what {_name(self._rules.function)} is called with: {error}"
            ) from None

    def writer_of(self, draft: Any) -> ModelCall:
        """What speaks for all model calls of the function together, or for the one whose response it returns."""
        if not self._calls and not self._has_strays and isinstance(draft, (ChatResponse, CompletionResponse)):
            return call_in(draft)  # of an LLM that LlamaIndex tells nothing of, or out of a cache
        return super().writer_of(draft)

    def why_missing(self, draft: Any) -> str | None:
        """That its LLM was not asked, as far as can be seen from here."""
        said = self.writer_of(draft).logprobs
        return f"{without_advice(said)}; {_NOT_ASKED}" if isinstance(said, MissingLogprobs) else None

    def annotated(self, answer: Any, decision: GateDecision) -> Any:
        """The answer with the decision in it; a text and other values have no place for it."""
        self._supersede_losers(decision)
        return annotated(answer, decision)

    def question_text(self) -> str | None:
        """What the function was called with: a text alone as it is, anything else as Python writes it."""
        is_method = next(iter(parameters_of(self._rules.function)), None) == "self"
        asked = self._args[1:] if is_method else self._args
        if len(asked) == 1 and not self._kwargs and isinstance(asked[0], str):
            return asked[0]
        named = (f"{name}={value!r}" for name, value in self._kwargs.items())
        return ", ".join([*map(repr, asked), *named])

    def text_of(self, answer: Any) -> str | None:
        """That of a response or an agent's output; of other values, as Python writes them."""
        return text_of(answer)

    def is_control_flow(self, error: Exception) -> bool:
        """Whether a workflow waits for an event or was cancelled; or the deeper function is a mistake."""
        return isinstance(error, _NoWholeAnswer) or super().is_control_flow(error)

    def _deeper_arguments(self, decision: GateDecision) -> dict[str, Any]:
        deeper = self._rules.deeper
        offered = wanted_by(deeper, {"draft": self.kept, "decision": decision})
        if not offered:
            return dict(self._kwargs)
        # What the function itself is called with under such a name stays.
        taken = inspect.signature(deeper).bind_partial(*self._args).arguments
        return {**{name: value for name, value in offered.items() if name not in taken}, **self._kwargs}


def _refuse_streams(function: Function) -> None:
    for each in (function, _call_of(function)):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(_NO_STREAM.format(_name(function)))


def _whole(answer: Any, function: Function) -> Any:
    """An answer that is there.

    Raises:
        TypeError: it is still to come.
    """
    stream = answer.response_gen if isinstance(answer, (StreamingResponse, AsyncStreamingResponse)) else answer
    if inspect.isgenerator(stream):
        stream.close()  # a request that nobody reads goes on being paid for
    if isinstance(answer, _STREAMS) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        raise _NoWholeAnswer(_NO_STREAM.format(_name(function)))
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise _NoWholeAnswer(
            f"{_name(function)} returned a {type(answer).__name__}, of which nothing has come yet: make it an "
            "asynchronous function that awaits it"
        )
    return answer


def _call_of(function: Function) -> Any:
    """How an object that is called like a function is called."""
    return getattr(type(function), "__call__", None)  # noqa: B004 (of the class, since that is where Python looks)


def _name(function: Function) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__
