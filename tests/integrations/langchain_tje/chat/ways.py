"""The ways to call a chat model; each gives the whole answer."""

import asyncio
from collections.abc import Awaitable, Callable

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_tje import EntropyGatedChatModel


def merged(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    first, *rest = chunks
    return sum(rest, first)


async def invoke(model: EntropyGatedChatModel, question: str) -> AIMessage:
    return model.invoke(question)


async def ainvoke(model: EntropyGatedChatModel, question: str) -> AIMessage:
    return await model.ainvoke(question)


async def batch(model: EntropyGatedChatModel, question: str) -> AIMessage:
    return model.batch([question])[0]


async def stream(model: EntropyGatedChatModel, question: str) -> AIMessage:
    return merged(list(model.stream(question)))


async def astream(model: EntropyGatedChatModel, question: str) -> AIMessage:
    return merged([chunk async for chunk in model.astream(question)])


async def events(model: EntropyGatedChatModel, question: str) -> AIMessage:
    ends = [event async for event in model.astream_events(question) if event["event"] == "on_chat_model_end"]
    return ends[0]["data"]["output"]


async def stream_v3(model: EntropyGatedChatModel, question: str) -> AIMessage:
    return model.stream_events(question, version="v3").output


async def astream_v3(model: EntropyGatedChatModel, question: str) -> AIMessage:
    output = await (await model.astream_events(question, version="v3")).output
    await asyncio.gather(
        *asyncio.all_tasks() - {asyncio.current_task()}
    )  # callbacks hear of the end after the output
    return output


WAYS = [invoke, ainvoke, batch, stream, astream, events]
if hasattr(BaseChatModel, "stream_events"):
    WAYS += [stream_v3, astream_v3]
Way = Callable[[EntropyGatedChatModel, str], Awaitable[AIMessage]]
