from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from llama_index.core.base.llms.types import CompletionResponse
from openai.types.chat import ChatCompletion

from tje_middleware import SequenceLogprobs, parse_logprobs
from tje_middleware.errors import MissingLogprobs, UnreadableLogprobs

from . import shapes
from .shapes import ROWS, TEXT, TOKENS, chat, chat_response, message, positions


@pytest.mark.parametrize("name", shapes.shapes())
def test_every_shape_gives_the_same_numbers(name: str) -> None:
    sequence = parse_logprobs(shapes.shapes()[name])
    np.testing.assert_allclose(sequence.top_logprobs, ROWS, rtol=1e-12)
    assert sequence.tokens in (None, tuple(TOKENS))


NAMELESS = (
    "LlamaIndex chat, raw lost",
    "LlamaIndex chat, raw of an unknown provider",
    "vLLM offline positions",
    "rows",
    "array",
    "rows as arrays",
)


@pytest.mark.parametrize("name", shapes.shapes())
def test_every_shape_that_names_the_sampled_tokens_keeps_them(name: str) -> None:
    tokens = parse_logprobs(shapes.shapes()[name]).tokens
    assert tokens == (None if name in NAMELESS else tuple(TOKENS))


@pytest.mark.parametrize("name", ["OpenAI chat object", "OpenAI completion dict", "Responses dict", "Google REST"])
def test_the_sampled_tokens_logprobs_are_kept(name: str) -> None:
    sampled = parse_logprobs(shapes.shapes()[name]).sampled_logprobs
    assert sampled is not None
    assert sampled.tolist() == [row[0] for row in ROWS]


def test_a_sequence_passes_through() -> None:
    sequence = SequenceLogprobs(np.array(ROWS))
    assert parse_logprobs(sequence) is sequence


def test_vllm_completions_may_hold_one_alternative_more_than_asked() -> None:
    payload = shapes.completion()
    payload["choices"][0]["logprobs"]["top_logprobs"][2]["sampled far below"] = -9.0
    sequence = parse_logprobs(payload)
    assert sequence.counts.tolist() == [3, 3, 4, 3]
    assert sequence.top_logprobs[0, 3] == -np.inf


def test_the_raw_object_is_preferred_to_llama_index_own_copy() -> None:
    assert parse_logprobs(chat_response(chat(), logprobs=shapes.lists_of_logprob()[:1])).tokens == tuple(TOKENS)


def test_a_sound_copy_does_not_hide_that_the_raw_object_is_wrong() -> None:
    payload = chat()
    payload["choices"][0]["logprobs"]["content"][1]["top_logprobs"][0]["logprob"] = float("nan")
    with pytest.raises(UnreadableLogprobs, match=r"\[1, 0\] is nan"):
        parse_logprobs(chat_response(payload, logprobs=shapes.lists_of_logprob()))


def test_containers_that_are_no_lists_are_read_like_lists() -> None:
    payload = shapes.vllm()
    payload.outputs[0].logprobs = deque(payload.outputs[0].logprobs)  # type: ignore[arg-type]
    assert parse_logprobs(payload).tokens == tuple(TOKENS)


@pytest.mark.parametrize("choice", [0, 1])
def test_choice_picks_one_of_several_answers(choice: int) -> None:
    other = {**chat()["choices"][0], "index": 1, "message": {"role": "assistant", "content": "Blue"}}
    other["logprobs"] = {"content": positions()[3:]}
    payload = {**chat(), "choices": [chat()["choices"][0], other]}
    assert len(parse_logprobs(payload, choice=choice)) == (4, 1)[choice]
    assert len(parse_logprobs(ChatCompletion.model_validate(payload), choice=choice)) == (4, 1)[choice]


@pytest.mark.parametrize("name", ["OpenAI chat dict", "vLLM offline", "Google", "LangChain LLMResult"])
@pytest.mark.parametrize("choice", [1, -1])
def test_a_choice_that_is_not_there_is_named(name: str, choice: int) -> None:
    with pytest.raises(UnreadableLogprobs, match=f"choice {choice} was asked for, but the payload holds 1"):
        parse_logprobs(shapes.shapes()[name], choice=choice)


def test_a_result_of_several_prompts_is_refused() -> None:
    generation = ChatGeneration(message=message())
    with pytest.raises(UnreadableLogprobs, match="2 prompts"):
        parse_logprobs(LLMResult(generations=[[generation], [generation]]))


def test_deepseek_marks_its_reasoning() -> None:
    payload = chat(logprobs={"reasoning_content": positions()[:3], "content": positions()[3:]})
    payload["choices"][0]["message"] = {"content": " blue", "reasoning_content": "The sky is"}
    sequence = parse_logprobs(payload)
    assert sequence.thinking.tokens == tuple(TOKENS[:3])
    assert sequence.answer.tokens == (" blue",)


WITHOUT = {
    "chat": chat(logprobs=None),
    "chat object": ChatCompletion.model_validate(chat(logprobs=None)),
    "chat with empty content": chat(logprobs={"content": [], "refusal": None}),
    "refusal": chat(logprobs={"content": None, "refusal": positions()}),
    "no choices": {"choices": []},
    "response_metadata": message(logprobs=None).response_metadata,
    "message": message(finish_reason="stop"),
    "generation": Generation(text=TEXT),
    "LLMResult": LLMResult(generations=[[Generation(text=TEXT, generation_info={"logprobs": None})]]),
    "LlamaIndex": chat_response(chat(logprobs=None), logprobs=[]),
    "LlamaIndex completion": CompletionResponse(text=TEXT, raw=chat(logprobs=None)),
    "responses": {"output": [{"content": [{"type": "output_text", "text": TEXT}]}]},
    "vLLM": shapes.VllmRequest([shapes.VllmCompletion(TEXT, [1], None)]),
    "Google": {"candidates": [{"content": {"parts": [{"text": TEXT}]}}]},
    "Google result": {"top_candidates": []},
    "Ollama": {"message": {"content": TEXT}, "done": True, "logprobs": None},
    "sampled only": [{"token": "a", "logprob": -0.1}],
    "sampled only, legacy": chat(logprobs={"tokens": ["a"], "token_logprobs": [-0.1]}),
    "no alternatives": [{**entry, "top_logprobs": []} for entry in positions()],
    "no alternatives, legacy": {**shapes.legacy_block(), "top_logprobs": [{}, None, {}, {}]},
    "llama.cpp without probabilities": {"content": TEXT, "tokens_predicted": 4, "stop": True},
    "llama.cpp empty probabilities": {"completion_probabilities": [{"content": "a", "probs": []}]},
    "empty list": [],
    "empty rows": [[], []],
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_known_shape_without_logprobs_is_missing_and_says_what_to_ask_for(name: str) -> None:
    with pytest.raises(MissingLogprobs, match=r"ask.*logprobs"):
        parse_logprobs(WITHOUT[name])


class Answer:
    def __init__(self) -> None:
        self.verdict = "TOP SECRET"


UNKNOWN: dict[str, tuple[Any, str]] = {
    "dict": ({"verdict": "TOP SECRET"}, "a dict with the keys verdict"),
    "text as key": ({"TOP SECRET": 1.0, "verdict": "TOP SECRET"}, r"a dict with the keys \(no name\), verdict"),
    "tokens as keys": ([{"SECRET": -0.1}], "a list of 1, the first being a dict of 1 numbers"),
    "object": (Answer(), "an? Answer with the fields verdict"),
    "text": ("TOP SECRET", "a str"),
    "nothing": (None, "a NoneType"),
    "list": (["TOP SECRET"], "a list of 1, the first being a str"),
    "content blocks": ({"content": [{"type": "text", "text": "TOP SECRET"}]}, "keys type, text"),
    "array": (np.array([["TOP SECRET"]]), "no array of numbers"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_shape_is_described_without_its_content(name: str) -> None:
    payload, found = UNKNOWN[name]
    with pytest.raises(UnreadableLogprobs, match=found) as caught:
        parse_logprobs(payload)
    assert not isinstance(caught.value, MissingLogprobs)
    assert "SECRET" not in str(caught.value)


def test_an_unknown_shape_is_told_which_are_known() -> None:
    with pytest.raises(UnreadableLogprobs, match=r"known are: OpenAI.*LangChain.*LlamaIndex.*Ollama.*vLLM.*Google"):
        parse_logprobs({"a": 1})
