"""The final answer: found in the text, and measured over the tokens that spell it."""

from __future__ import annotations

import pickle
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs, SignalError
from tje_middleware.signals import answer_entropy, answer_entropy_by, answer_span, answer_total
from tje_middleware.signals.answers import find_span

from .drafts import of_bits


def draft(*tokens: str, marked: Any = None) -> SequenceLogprobs:
    return SequenceLogprobs(np.full((len(tokens), 2), -0.7), tokens, marked_thinking=marked)


def spelt(sequence: SequenceLogprobs, find: Any = None) -> list[str]:
    assert sequence.tokens is not None
    return [sequence.tokens[position] for position in answer_span(sequence, find)]


def found(text: str) -> str | None:
    span = find_span(text)
    return span and text[slice(*span)]


STATED = [
    ("So 6 * 7.\nFinal answer: 42", "42"),
    ("**Final Answer:** 42.", "42"),
    ("### Final Answer\n\n42\n", "42"),
    ("Final answer: Paris. I hope this helps!", "Paris"),
    ("Final answer: 41\nNo, wait.\nFinal answer: 42\nDone.", "42"),
    ("The final answer is **-3.5**.", "-3.5"),
    ("Hence the answer is 42, and 42 only.\nGood luck.", "42, and 42 only"),
    ("Answer: (B)", "(B)"),
    ("The answer is 41 at first. The answer is 42", "42"),
    ("We get \\(\\boxed{41}\\), no: \\[ \\boxed{ \\frac{\\sqrt{2}}{3} } \\]", "\\frac{\\sqrt{2}}{3}"),
    ("Final answer: \\boxed{42} dollars", "42"),
    ("6 * 7 = <<6*7=42>>42\n#### 42", "42"),
    ("#### $1,250.50", "$1,250.50"),
    ("#### Step two\nWe add.\nThe answer is 5", "5"),
    ('{"reasoning": "6 * 7", "answer": "42"}', "42"),
    ('{"answer": 42, "reasoning": "6 * 7"}', "42"),
    ('{"answer": "say \\"hi\\", then go", "n": 1}', 'say \\"hi\\", then go'),
    ('{"answer": [4, 2]}', "[4, 2]"),
    ("x = 6 * 7\n42", "42"),
    ("It is\n  Paris  \n\n", "Paris"),
    ("```python\nprint(42)\n```", "print(42)"),
    ("\\[\nx = 42\n\\]", "x = 42"),
    ("We need the answer.\n42<|im_end|>\n", "42"),
    ("42\n</s>", "42"),
    ("{}", "{}"),
    ("\\boxed{41 and so on", "\\boxed{41 and so on"),
    ("\n \n", None),
    ("**", None),
]


@pytest.mark.parametrize(("text", "answer"), STATED)
def test_the_usual_ways_to_state_an_answer(text: str, answer: str | None) -> None:
    assert found(text) == answer


def test_the_tokens_are_those_that_share_a_character_with_it() -> None:
    assert spelt(draft("Final answer", ": 4", "2", "0.", " Bye")) == [": 4", "2", "0."]
    assert spelt(draft("Final answer:", " ", "42", ".")) == ["42"]


def test_its_entropies_are_those_of_its_tokens() -> None:
    sequence = of_bits([3, 3, 3, 1, 2, 3], ["Final", " answer", ":", " 4", "2", "\n"])
    assert answer_entropy(sequence) == pytest.approx(1.5)
    assert answer_total(sequence) == pytest.approx(3.0)


@settings(deadline=None)
@given(st.sampled_from([text for text, answer in STATED if answer]), st.data())
def test_the_tokens_are_those_of_a_loop_however_the_text_is_cut(text: str, data: Any) -> None:
    ends = sorted({0, len(text), *data.draw(st.sets(st.integers(0, len(text))))})
    begin, end = find_span(text) or (0, 0)
    expected = [index for index, (a, b) in enumerate(pairwise(ends)) if a < end and b > begin]
    assert answer_span(draft(*[text[a:b] for a, b in pairwise(ends)])).tolist() == expected


@pytest.mark.parametrize("fragments", [("�", "�"), ("", "é"), ("\\xc3", "\\xa9"), ("<0xC3>", "<0xA9>")])
def test_fragments_of_characters_do_not_shift_it(fragments: tuple[str, str]) -> None:
    assert spelt(draft("Caf", *fragments, ":\nfinal answer: ", "4", "2")) == ["4", "2"]
    answer = spelt(draft("Final answer:", " Caf", *fragments, "\nBye"))
    assert answer == [" Caf", *fragments]


def test_thinking_holds_no_final_answer() -> None:
    assert spelt(draft("<think>", "the answer is 41", "</think>", "It is", "\n42")) == ["\n42"]


def test_positions_are_those_of_the_whole_sequence() -> None:
    sequence = draft("<think>", "hm", "</think>", "answer is ", "4", "2")
    assert answer_span(sequence).tolist() == [4, 5]
    between = draft("answer: ", "hm", "4", "2", marked=[False, True, False, False])
    assert answer_span(between).tolist() == [2, 3]


def test_a_pattern_gives_its_group_1_or_all_of_it_at_its_last_match() -> None:
    sequence = draft("verdict:", " no", " verdict:", " yes", "!")
    assert spelt(sequence, r"verdict: (\w+)") == [" yes"]
    assert spelt(sequence, r"verdict: \w+") == [" verdict:", " yes"]
    assert spelt(sequence, re.compile(r"VERDICT: (\w+)", re.IGNORECASE)) == [" yes"]
    assert spelt(sequence, r"verdict: (?:(maybe)|yes)") == [" verdict:", " yes"]


def test_a_function_gives_the_span() -> None:
    assert spelt(draft("a", "bc", "d"), lambda _: (1, 2)) == ["bc"]


@pytest.mark.parametrize("span", [(2, 1), (0, 99), (-1, 2), 3, (1, 2, 3), ("a", "b")])
def test_a_function_that_gives_no_span_of_the_text_is_named(span: Any) -> None:
    with pytest.raises(SignalError, match=r"must give \(start, end\)"):
        answer_span(draft("a", "bc"), lambda _: span)


@pytest.mark.parametrize("find", ["nothing", "(x*)", lambda _: None, lambda _: (1, 1)])
def test_where_nothing_is_found_it_is_unknown(find: Any) -> None:
    with pytest.raises(SignalError, match="no final answer is found"):
        answer_span(draft("a", "bc"), find)


@pytest.mark.parametrize("signal", [answer_entropy, answer_total, answer_entropy_by("a")])
def test_without_texts_words_or_an_answer_it_is_unknown(signal: Any) -> None:
    with pytest.raises(SignalError, match="does not know its tokens' texts"):
        signal(of_bits([1, 1]))
    with pytest.raises(SignalError, match="only thinking"):
        signal(draft("<think>", "the answer is 41"))
    with pytest.raises(SignalError, match="no final answer is found"):
        signal(draft("\n", "\n"))
    with pytest.raises(SignalError, match="no final answer is found"):
        signal(draft("", ""))


def test_a_signal_of_ones_own_pattern() -> None:
    signal = answer_entropy_by(r"(?i)verdict:\s*(\w+)")
    sequence = of_bits([3, 1, 2, 3], ["Verdict:", " in", "nocent", "."])
    assert signal(sequence) == pytest.approx(1.5)
    assert pickle.loads(pickle.dumps(signal))(sequence) == pytest.approx(1.5)


def test_a_malformed_pattern_is_refused_when_the_signal_is_made() -> None:
    with pytest.raises(SignalError, match="is no pattern"):
        answer_entropy_by("(")


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from('ab42 \n.{}\\"#*:is<|>') | st.characters(), max_size=60))
def test_any_text_has_a_span_inside_it_or_none(text: str) -> None:
    for whole in (text, f"final answer: {text}", f"\\boxed{{{text}", f'{{"answer": {text}', f"#### {text}"):
        span = find_span(whole)
        assert span is None or 0 <= span[0] < span[1] <= len(whole)


@pytest.mark.parametrize(
    "unit", ["\\boxed{", "final answer:\n ", "answer is ", '"answer": "', "#### 1", "\\boxed{a{b}", " \n"]
)
def test_a_long_text_made_to_confuse_the_patterns_is_read_all_the_same(unit: str) -> None:
    find_span(unit * 20_000)
    find_span(unit + "{}. \\" * 20_000)
