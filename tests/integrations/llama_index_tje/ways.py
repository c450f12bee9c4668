"""The eight ways to ask an LLM one question, each gives the answer or its chunks; and what is read of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import LLM

from tje_middleware.calls.log import ModelCall

Response = ChatResponse | CompletionResponse
Way = Callable[[LLM, str], Awaitable[list[Response]]]


def messages(question: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=question)]


async def chat(llm: LLM, question: str) -> list[Response]:
    return [await asyncio.to_thread(llm.chat, messages(question))]


async def achat(llm: LLM, question: str) -> list[Response]:
    return [await llm.achat(messages(question))]


async def stream_chat(llm: LLM, question: str) -> list[Response]:
    return await asyncio.to_thread(lambda: list(llm.stream_chat(messages(question))))


async def astream_chat(llm: LLM, question: str) -> list[Response]:
    return [chunk async for chunk in await llm.astream_chat(messages(question))]


async def complete(llm: LLM, question: str) -> list[Response]:
    return [await asyncio.to_thread(llm.complete, question)]


async def acomplete(llm: LLM, question: str) -> list[Response]:
    return [await llm.acomplete(question)]


async def stream_complete(llm: LLM, question: str) -> list[Response]:
    return await asyncio.to_thread(lambda: list(llm.stream_complete(question)))


async def astream_complete(llm: LLM, question: str) -> list[Response]:
    return [chunk async for chunk in await llm.astream_complete(question)]


STREAMED = [stream_chat, astream_chat, stream_complete, astream_complete]
WHOLE = [chat, achat, complete, acomplete]
EVERY = WHOLE + STREAMED


def text_of(response: Response) -> str:
    return (response.message.content or "") if isinstance(response, ChatResponse) else response.text


def decision_of(response: Response) -> dict[str, Any]:
    place = response.message if isinstance(response, ChatResponse) else response
    return place.additional_kwargs["tje"]


def bits(calls: Sequence[ModelCall]) -> list[float]:
    """The entropies of calls, in ascending order: those that run side by side end in any."""
    return sorted(round(call.mean_entropy, 6) for call in calls)
