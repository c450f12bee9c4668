"""Every way to call an LLM, as one function that reads the answer to its end."""

from __future__ import annotations

from llama_index.core.llms import LLM, ChatMessage


def said(question: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=question)]


async def chat(llm: LLM, question: str) -> None:
    llm.chat(said(question))


async def achat(llm: LLM, question: str) -> None:
    await llm.achat(said(question))


async def stream_chat(llm: LLM, question: str) -> None:
    for _ in llm.stream_chat(said(question)):
        pass


async def astream_chat(llm: LLM, question: str) -> None:
    async for _ in await llm.astream_chat(said(question)):
        pass


async def complete(llm: LLM, question: str) -> None:
    llm.complete(question)


async def acomplete(llm: LLM, question: str) -> None:
    await llm.acomplete(question)


async def stream_complete(llm: LLM, question: str) -> None:
    for _ in llm.stream_complete(question):
        pass


async def astream_complete(llm: LLM, question: str) -> None:
    async for _ in await llm.astream_complete(question):
        pass


WAYS = [chat, achat, stream_chat, astream_chat, complete, acomplete, stream_complete, astream_complete]
