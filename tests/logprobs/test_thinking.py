from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs, parse_logprobs
from tje_middleware.logprobs import thinking_mask

from .shapes import TOKENS, chat, message, position, positions


def split(tokens: list[str]) -> tuple[str, str]:
    sequence = SequenceLogprobs(np.full((len(tokens), 1), -0.1), tuple(tokens))
    return sequence.thinking.text or "", sequence.answer.text or ""


@pytest.mark.parametrize(
    ("tokens", "thinking", "answer"),
    [
        (["<think>", "hm", "</think>", "\n", "4"], "<think>hm</think>", "\n4"),
        (["<thinking>", "hm", "</thinking>", "4"], "<thinking>hm</thinking>", "4"),
        (["Well ", "<think>", "hm", "</think>", "4"], "<think>hm</think>", "Well 4"),
        (
            ["<think>", "a", "</think>", "1", "<think>", "b", "</think>", "2"],
            "<think>a</think><think>b</think>",
            "12",
        ),
        (["<think>", "hm", " so"], "<think>hm so", ""),
        (["hm", "</think>", "4"], "hm</think>", "4"),
        (["<", "thi", "nk", ">", "hm", "</", "think", ">", "4"], "<think>hm</think>", "4"),
        (["<think>hm", "\n", "</think>4", "2"], "<think>hm\n</think>4", "2"),
        (["I", " think", " so"], "", "I think so"),
        (["4"], "", "4"),
    ],
    ids=[
        "tags",
        "long tags",
        "later",
        "twice",
        "unclosed",
        "closing only",
        "split tags",
        "tag in token",
        "word",
        "no",
    ],
)
def test_think_tags_part_thinking_from_answer(tokens: list[str], thinking: str, answer: str) -> None:
    assert split(tokens) == (thinking, answer)


def test_without_tokens_everything_is_answer() -> None:
    sequence = SequenceLogprobs(np.full((3, 2), -1.0))
    assert len(sequence.answer) == 3
    assert len(sequence.thinking) == 0


@given(st.text("ab <>", max_size=20), st.text("ab <>", max_size=20), st.data())
def test_the_split_does_not_depend_on_the_tokenisation(thought: str, answer: str, data: Any) -> None:
    text = f"<think>{thought}</think>{answer}"
    border = len(text) - len(answer)
    places = {0, border, len(text), *data.draw(st.sets(st.integers(0, len(text))))}
    ends = sorted(places)
    tokens = [text[a:b] for a, b in pairwise(ends)]
    assert split(tokens) == (text[:border], answer)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_that_the_provider_returns_apart_marks_the_tokens_that_spell_it(name: str) -> None:
    payload = chat(message={"content": " blue", name: "The sky is"})
    assert parse_logprobs(payload).thinking.tokens == tuple(TOKENS[:3])
    assert parse_logprobs(payload).answer.tokens == (" blue",)


def test_reasoning_on_a_langchain_message_marks_the_tokens() -> None:
    answer = message()
    answer.additional_kwargs["reasoning_content"] = "The sky is\n"
    assert parse_logprobs(answer).answer.tokens == (" blue",)


def test_reasoning_that_the_logprobs_do_not_cover_marks_nothing() -> None:
    assert not parse_logprobs(chat(message={"content": "blue", "reasoning": "Let me see"})).thinking_mask.any()


def test_tags_go_before_the_providers_text() -> None:
    assert thinking_mask(["<think>", "The", "</think>", "The"], "The").tolist() == [True, True, True, False]


def test_marks_survive_take_truncated_and_concatenate() -> None:
    sequence = parse_logprobs({"reasoning_content": positions()[:3], "content": [position(3)]})
    for same in (
        sequence.truncated(2),
        sequence.take(np.ones(4, dtype=bool)),
        SequenceLogprobs.concatenate([sequence]),
    ):
        assert same.thinking_mask.tolist() == [True, True, True, False]
