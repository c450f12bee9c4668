from __future__ import annotations

from functools import reduce
from operator import add
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseTextDeltaEvent, ResponseTextDoneEvent

from tje_middleware import LogprobsAccumulator, parse_logprobs
from tje_middleware.errors import MissingLogprobs, TjeError, UnreadableLogprobs

from . import shapes
from .shapes import ROWS, TEXT, TOKENS, chat_response, position, positions

SILENT = {"content": ""}


def chunk(delta: dict[str, Any], logprobs: Any = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def token_chunk(number: int, index: int = 0) -> dict[str, Any]:
    return chunk({"content": TOKENS[number]}, {"content": [position(number)], "refusal": None}, index)


def chat_chunks() -> list[dict[str, Any]]:
    usage = {**chunk({}), "choices": []}
    tokens = [token_chunk(number) for number in range(4)]
    return [chunk({"role": "assistant", "content": ""}), *tokens, chunk({}), usage]


def message_chunks() -> list[AIMessageChunk]:
    metadata = [{"logprobs": {"content": [position(number)], "refusal": None}} for number in range(4)]
    tokens = [AIMessageChunk(text, response_metadata=data) for text, data in zip(TOKENS, metadata, strict=True)]
    return [AIMessageChunk(""), *tokens, AIMessageChunk("", response_metadata={"finish_reason": "stop"})]


def responses_events() -> list[dict[str, Any]]:
    place = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 1}
    deltas = [
        {"type": "response.output_text.delta", "delta": token, "logprobs": [position(number)], **place}
        for number, token in enumerate(TOKENS)
    ]
    part = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": positions()}
    return [
        {"type": "response.created", "response": {**shapes.responses(), "output": []}},
        *deltas,
        {"type": "response.output_text.done", "text": TEXT, "logprobs": positions(), **place},
        {"type": "response.content_part.done", "part": part, **place},
        {"type": "response.completed", "response": shapes.responses()},
    ]


def responses_objects() -> list[Any]:
    created, *events, _, completed = responses_events()
    kinds = {"response.output_text.delta": ResponseTextDeltaEvent, "response.output_text.done": ResponseTextDoneEvent}
    read = [kinds[event["type"]].model_validate(event) for event in events]
    return [SimpleNamespace(**created), *read, SimpleNamespace(**completed)]


def llama_cpp_chunks() -> list[dict[str, Any]]:
    whole = shapes.llama_cpp("top_logprobs")["completion_probabilities"]
    tokens = [
        {"content": text, "stop": False, "tokens_predicted": 1, "completion_probabilities": [entry]}
        for text, entry in zip(TOKENS, whole, strict=True)
    ]
    return [*tokens, {"content": "", "stop": True, "tokens_predicted": 4}]


def google_chunks() -> list[dict[str, Any]]:
    result = shapes.google()["candidates"][0]["logprobs_result"]
    tokens = [
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": TOKENS[number]}]},
                    "logprobs_result": {name: [entries[number]] for name, entries in result.items()},
                }
            ]
        }
        for number in range(4)
    ]
    return [*tokens, {"candidates": None, "usage_metadata": {"total_token_count": 9}}]


def streams() -> dict[str, list[Any]]:
    """The same answer in every shape of a stream."""
    chunks = chat_chunks()
    ollama = [
        {"message": {"content": TOKENS[number]}, "done": False, "logprobs": [position(number)]} for number in range(4)
    ]
    texts = [
        {"choices": [{"index": 0, "text": TOKENS[number], "logprobs": {"tokens": [TOKENS[number]], **block}}]}
        for number, block in enumerate({"top_logprobs": [row]} for row in shapes.by_token())
    ]
    return {
        "OpenAI dicts": chunks,
        "OpenAI objects": [ChatCompletionChunk.model_validate(item) for item in chunks],
        "OpenAI completion": texts,
        "LangChain": message_chunks(),
        "LangChain generations": [ChatGenerationChunk(message=item) for item in message_chunks()],
        "LangChain text generations": [
            *(GenerationChunk(text=item["choices"][0]["text"], generation_info=item["choices"][0]) for item in texts),
            GenerationChunk(text=""),
        ],
        "LlamaIndex": [chat_response(ChatCompletionChunk.model_validate(item), delta="") for item in chunks],
        "LlamaIndex agent": [{"raw": item, "delta": "", "response": TEXT} for item in chunks],
        "LlamaIndex over Responses": [chat_response(item) for item in responses_objects()],
        "Responses events": responses_events(),
        "Responses objects": responses_objects(),
        "Ollama": [*ollama, {"message": SILENT, "done": True}],
        "llama.cpp": llama_cpp_chunks(),
        "Google": google_chunks(),
    }


@pytest.mark.parametrize("name", streams())
def test_a_list_of_chunks_is_read_like_the_whole_answer(name: str) -> None:
    sequence = parse_logprobs(streams()[name])
    np.testing.assert_allclose(sequence.top_logprobs, ROWS)
    assert sequence.tokens == tuple(TOKENS)


@pytest.mark.parametrize("name", streams())
def test_the_accumulator_counts_what_each_chunk_brings(name: str) -> None:
    accumulator = LogprobsAccumulator()
    brought = [accumulator.add(item) for item in streams()[name]]
    assert set(brought) <= {0, 1}
    assert sum(brought) == len(accumulator) == 4


def test_added_langchain_chunks_are_read_like_the_whole_answer() -> None:
    assert parse_logprobs(reduce(add, message_chunks())).top_logprobs.tolist() == ROWS
    generations = [ChatGenerationChunk(message=item) for item in message_chunks()]
    assert parse_logprobs(reduce(add, generations)).top_logprobs.tolist() == ROWS


@pytest.mark.parametrize("kind", [dict, ChatCompletionChunk.model_validate])
def test_interleaved_choices_are_told_apart(kind: Any) -> None:
    other = [token_chunk(number, index=1) for number in (3, 0)]
    first = [token_chunk(number) for number in range(4)]
    stream = [kind(item) for item in (first[0], other[0], first[1], first[2], other[1], first[3])]
    assert parse_logprobs(stream).tokens == tuple(TOKENS)
    assert parse_logprobs(stream, choice=1).tokens == (" blue", "The")
    wrapped = [chat_response(item) for item in stream]
    assert parse_logprobs(wrapped, choice=1).tokens == (" blue", "The")


def without(number: int, stream: list[Any]) -> list[Any]:
    return [*stream[:number], *stream[number + 1 :]]


def test_a_hole_is_refused() -> None:
    stream = chat_chunks()
    stream[2]["choices"][0]["logprobs"] = None
    with pytest.raises(UnreadableLogprobs, match=r"4 characters.*holes"):
        parse_logprobs(stream)


def test_a_hole_in_langchain_chunks_is_refused() -> None:
    stream = message_chunks()
    stream[2].response_metadata.clear()
    with pytest.raises(UnreadableLogprobs, match="holes"):
        parse_logprobs(stream)


def test_text_that_comes_later_than_its_tokens_is_no_hole() -> None:
    """A server that looks ahead for a stop string holds text back, and sends the rest without tokens."""
    logprobs = [{"content": [position(number)]} for number in range(4)]
    held_back = [chunk({"content": ""}, block) for block in logprobs[:3]]
    assert len(parse_logprobs([*held_back, chunk({"content": TEXT}, logprobs[3])])) == 4
    assert len(parse_logprobs([*held_back, chunk({"content": ""}, logprobs[3]), chunk({"content": TEXT})])) == 4


def test_a_stream_without_logprobs_is_missing() -> None:
    with pytest.raises(MissingLogprobs, match="no chunk of the stream had logprobs; ask"):
        parse_logprobs([chunk({"content": "Hi"}), chunk({})])
    with pytest.raises(MissingLogprobs):
        LogprobsAccumulator().result()
    with pytest.raises(MissingLogprobs):
        parse_logprobs(responses_events()[-1:])


def test_a_bad_number_is_refused_when_it_arrives() -> None:
    accumulator = LogprobsAccumulator()
    bad = token_chunk(0)
    bad["choices"][0]["logprobs"]["content"][0]["top_logprobs"][1]["logprob"] = float("nan")
    with pytest.raises(UnreadableLogprobs, match=r"\[0, 1\] is nan"):
        accumulator.add(bad)


def test_a_chunk_whose_properties_raise_is_refused_by_the_accumulator_itself() -> None:
    class Hostile:
        @property
        def choices(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(TjeError, match="ZeroDivisionError"):
        LogprobsAccumulator().add(Hostile())


def test_a_streamed_reasoning_is_marked() -> None:
    thought = [chunk({"reasoning_content": TOKENS[n]}, {"content": [position(n)]}) for n in range(3)]
    sequence = parse_logprobs([*thought, token_chunk(3)])
    assert sequence.thinking.tokens == tuple(TOKENS[:3])
    assert sequence.answer.tokens == (" blue",)


@pytest.mark.parametrize("text", [TEXT, "Paris."])
def test_a_merge_that_kept_only_the_last_chunk_is_refused(text: str) -> None:
    """LangChain's stream_events(version="v3") leaves logprobs of one token on the whole message."""
    last = {"token": ".", "logprob": -0.1, "top_logprobs": [{"token": ".", "logprob": -0.1}]}
    message = AIMessageChunk(text, response_metadata={"logprobs": {"content": [last]}})
    with pytest.raises(UnreadableLogprobs, match=r"cover 1 of \d+ characters"):
        parse_logprobs(message)


def test_the_last_response_of_a_llama_index_stream_is_refused() -> None:
    with pytest.raises(UnreadableLogprobs, match="cover 5 of 15 characters"):
        parse_logprobs(chat_response(ChatCompletionChunk.model_validate(token_chunk(3))))


def test_tokens_that_are_parts_of_characters_cover_their_text() -> None:
    parts = [{**position(0), "token": ""} for _ in range(60)]
    payload = shapes.chat(
        message={"content": "\N{CJK UNIFIED IDEOGRAPH-9F98}" * 20}, logprobs={"content": [*parts, position(0)]}
    )
    assert len(parse_logprobs(payload)) == 61


@pytest.mark.parametrize("kind", ["messages", "completions"])
def test_a_list_of_whole_answers_is_no_stream(kind: str) -> None:
    position = {"token": "Hi", "logprob": -0.1, "top_logprobs": [{"token": "Hi", "logprob": -0.1}]}
    logprobs = {"content": [position]}
    message = AIMessage("Hi", response_metadata={"logprobs": logprobs})
    completion = {"choices": [{"message": {"content": "Hi"}, "logprobs": logprobs}]}
    answer = message if kind == "messages" else completion
    assert len(parse_logprobs([answer])) == 1
    with pytest.raises(UnreadableLogprobs, match="2 answers: pass one at a time"):
        parse_logprobs([answer, answer])
