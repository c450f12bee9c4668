"""Whatever follows, a signal comes out at no less than its bound; and the bound is as high as can be known."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.samples import draft
from tje_middleware import SequenceLogprobs, SignalError, register_signal
from tje_middleware.logprobs import thinking_mask
from tje_middleware.logprobs.sequence import without_end
from tje_middleware.signals import (
    CANDIDATES,
    SIGNALS,
    bound_kind,
    lower_bound,
    measure,
    quantile_entropy,
    uncertain_tokens,
)
from tje_middleware.signals.bounds import rules
from tje_middleware.signals.bounds.tokens import AnswerTokens
from tje_middleware.signals.entropies import WINDOW

from ..drafts import of_bits
from ..streams import TEXTS, WORDS, streams

TOP_K = 3
PARTS = ("", "@answer", "@thinking")
GROWING = {
    "total_entropy",
    "max_entropy",
    "window_entropy",
    "uncertain_tokens",
    "length",
    "number_entropy",
    "number_max",
    "total_nll",
    "worst_nll",
    "worst_margin",
    "deepconf_window",
}
LIMITED = {"mean_entropy", "p90_entropy", "uncertain_share", "mean_nll", "margin"}
BOUNDED = sorted(name + part for name in GROWING | LIMITED for part in PARTS)


def whole(parts):
    return without_end(SequenceLogprobs.concatenate(parts))


def bound_of(name, parts, *, top_k=TOP_K, max_tokens=None):
    bound = lower_bound(name, top_k=top_k, max_tokens=max_tokens)
    for part in parts:
        bound.add(part)
    return bound


def one_by_one(sequence):
    return [sequence.take(np.arange(len(sequence)) == place) for place in range(len(sequence))]


class TestWhichSignals:
    @pytest.mark.parametrize("name", SIGNALS)
    def test_have_which_kind_of_bound(self, name):
        wanted = "grows" if name in GROWING else "limited" if name in LIMITED else None
        assert [bound_kind(name + part) for part in PARTS] == [wanted] * 3

    @pytest.mark.parametrize("name", CANDIDATES)
    def test_of_the_limited_have_one_only_with_a_limit(self, name):
        assert (lower_bound(name, top_k=TOP_K) is not None) == (bound_kind(name) == "grows")
        assert (lower_bound(name, top_k=TOP_K, max_tokens=9) is not None) == (bound_kind(name) is not None)

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(SignalError, match="no signal 'mood'"):
            lower_bound("mood", top_k=TOP_K)


class TestWhateverFollows:
    @pytest.mark.parametrize("name", BOUNDED)
    @settings(deadline=None, max_examples=120)
    @given(streams(), st.integers(0, 14), st.integers(0, 3))
    def test_the_value_is_at_least_the_bound(self, name, parts, came, more):
        tokens = sum(map(len, parts))
        bound = bound_of(name, parts[:came], max_tokens=tokens + more)
        least = bound.value()
        try:
            value = measure(name, whole(parts).truncated(TOP_K))
        except SignalError:
            assert least is None or bound.may_fail
        else:
            assert least is None or value >= least

    @pytest.mark.parametrize("name", sorted((GROWING | LIMITED) - {"deepconf_window"}))
    @settings(deadline=None, max_examples=60)
    @given(streams(texts=WORDS, plain=True), st.integers(1, 14))
    def test_the_bound_is_no_lower_than_need_be(self, name, parts, came):
        came = parts[:came]
        sofar = SequenceLogprobs.concatenate(came)
        tokens, limit = len(sofar), 2 * len(sofar)
        value = bound_of(name, came, top_k=5, max_tokens=limit).value()
        try:
            now = measure(name, sofar)
        except SignalError:
            assume(False)
        if name == "p90_entropy":
            certain = SequenceLogprobs(np.zeros((tokens, 1)), [" b"] * tokens)
            now = quantile_entropy(SequenceLogprobs.concatenate([sofar, certain]), 0.9)
        elif name.startswith("uncertain"):  # but for tosses between two
            now = uncertain_tokens(sofar, level=1.0 + 1e-9) / (limit if name in LIMITED else 1)
        elif name in LIMITED:
            now = now * tokens / limit
        elif name == "window_entropy":
            now = now * min(tokens, WINDOW) / WINDOW
        assert value == pytest.approx(now, abs=1e-7)

    @settings(deadline=None)
    @given(streams())
    def test_it_never_falls(self, parts):
        for name in BOUNDED:
            bound, last = lower_bound(name, top_k=TOP_K, max_tokens=99), -math.inf
            for part in parts:
                bound.add(part)
                if bound.value() is None:
                    break
                assert bound.value() >= last - 1e-9
                last = bound.value()


class TestWindows:
    def test_a_prefix_shorter_than_a_window_counts_as_if_the_rest_of_it_were_certain(self):
        assert bound_of("window_entropy", [draft(1.6, tokens=4)], top_k=20).value() == pytest.approx(1.6 * 4 / WINDOW)

    def test_confidences_of_a_prefix_shorter_than_a_window_bound_nothing(self):
        bound = bound_of("deepconf_window", [draft(1.6, tokens=WINDOW - 1)], top_k=20)
        assert bound.value() is None
        bound.add(draft(1.6, tokens=1))
        assert bound.value() == pytest.approx(measure("deepconf_window", draft(1.6, tokens=WINDOW)))


class TestTheEndOfTheTurn:
    def test_an_empty_last_token_counts_once_another_follows(self):
        parts = one_by_one(of_bits([1, 3, 1], ["a", "", "b"]))
        assert bound_of("total_entropy", parts[:2], top_k=8).value() == pytest.approx(1.0)
        assert bound_of("total_entropy", parts, top_k=8).value() == pytest.approx(5.0)

    def test_a_token_without_text_counts_where_texts_are_not_known(self):
        assert bound_of("total_entropy", [of_bits([1, 3])], top_k=8).value() == pytest.approx(4.0)


class TestATossBetweenTwo:
    @pytest.mark.parametrize("width", [2, 3, 5, 20])
    def test_is_not_above_one_bit_however_it_is_rounded(self, width):
        toss = np.full((1, width), -np.inf)
        toss[0, :2] = np.nextafter(-math.log(2), 0.0), -math.log(2)
        assert bound_of("uncertain_tokens", [SequenceLogprobs(toss)], top_k=20).value() == 0


class TestThinking:
    def bits(self, name, texts, **known):
        parts = one_by_one(of_bits([1] * len(texts), texts, **known))
        value = bound_of(name, parts, top_k=2).value()
        return None if value is None else round(value)

    @pytest.mark.parametrize(
        ("texts", "sure"),
        [
            (["a", "b"], None),  # a closing tag would make it thinking
            (["a", "<think>"], 1),  # an opening one settles what is before it
            (["a", "</think>", "b"], 1),
            (["<think>", "a", "</think>", "b", "c"], 2),
            (["<think>", "a", "</think>", "b", "<thi"], 1),  # may become a tag
            (["<think>", "a", "</think>", "b", "<thi", "s"], 3),
            (["<think>", "a", "</think>", "b", "<thinking>", "c"], 1),
            (["<think>", "a", "</think>", "b", "</think>", "c"], 2),  # a stray tag is thinking by itself
        ],
    )
    def test_answer_tokens_count_where_no_tag_can_take_them_away(self, texts, sure):
        assert self.bits("total_entropy@answer", texts) == sure

    def test_answer_tokens_on_both_sides_of_thinking_are_no_neighbours_for_sure(self):
        texts = ["a"] * 8 + ["<think>", *"hm", "</think>"] + ["b"] * 8
        bound = bound_of("window_entropy@answer", one_by_one(of_bits([1] * len(texts), texts)), top_k=2)
        assert bound.value() == pytest.approx(8 / WINDOW)

    def test_tags_alone_settle_no_thinking(self):
        assert self.bits("total_entropy@thinking", ["<think>", "a", "b"]) is None

    def test_a_providers_marks_settle_both_parts(self):
        known = {"marked_thinking": np.array([True, True, False])}
        assert self.bits("total_entropy@thinking", ["a", "b", "c"], **known) == 2
        assert self.bits("total_entropy@answer", ["a", "b", "c"], **known) == 1

    @settings(deadline=None, max_examples=500)
    @given(st.lists(st.sampled_from(TEXTS), max_size=12))
    @example(["<", "thi", "nk>", "a", "</", "thi", "nk>", "a"])
    def test_tags_are_followed_as_they_are_found_in_the_whole(self, texts):
        # Behind these no tag can be in the making any more, so all is settled that ever is.
        texts = [*texts, "the", "end"]
        parts, followed = one_by_one(of_bits([1] * len(texts), texts)), AnswerTokens()
        settled = [value for number, part in enumerate(parts) for value in followed.add([number], part)]
        in_the_whole = {number for number, thinking in enumerate(thinking_mask(texts)) if not thinking}
        # What looks like thinking by itself would be thinking where a provider began to mark it.
        by_itself = {number for number, text in enumerate(texts) if not thinking_mask([text])[0]}
        has_tags = re.search("</?think(ing)?>", "".join(texts))
        assert {number for number in settled if number is not None} == (
            in_the_whole & by_itself if has_tags else set()
        )


class TestSignalsOfUsers:
    def half_the_length(self):
        seen = []

        def half(sequence):
            seen.append(len(sequence))
            return len(sequence) / 2

        return half, seen

    def test_are_bounded_by_their_value_where_they_are_said_to_grow(self):
        half, _ = self.half_the_length()
        register_signal("half", half, grows=True)
        assert bound_kind("half") == "grows"
        assert bound_of("half", one_by_one(draft(1.0, tokens=4)), top_k=20).value() == pytest.approx(2.0)

    def test_are_bounded_by_nothing_where_they_are_not(self):
        half, _ = self.half_the_length()
        register_signal("half", half)
        assert lower_bound("half", top_k=20, max_tokens=9) is None

    def test_have_no_bound_over_a_part(self):
        register_signal("half", self.half_the_length()[0], grows=True)
        assert bound_kind("half@answer") is None

    def test_the_promise_is_that_of_the_last_registration(self):
        half, _ = self.half_the_length()
        register_signal("half", half, grows=True)
        register_signal("half", half)
        assert bound_kind("half") is None

    def test_the_promise_can_be_given_with_a_decorator(self):
        @register_signal("twice", grows=True)
        def twice(sequence):
            return 2.0 * len(sequence)

        assert bound_kind("twice") == "grows"

    def test_a_signal_of_this_package_under_another_name_keeps_its_bound(self):
        register_signal("doubt", SIGNALS["mean_entropy"])
        assert bound_kind("doubt") == "limited"

    @pytest.mark.parametrize("tokens", [100, 1000])
    def test_are_measured_over_a_few_times_the_tokens_in_all(self, tokens):
        half, seen = self.half_the_length()
        register_signal("half", half, grows=True)
        bound_of("half", one_by_one(draft(1.0, tokens=tokens)), top_k=20)
        assert sum(seen) <= 6 * tokens

    def test_one_that_has_no_value_yet_may_have_one_later(self):
        def late(sequence):
            if len(sequence) < 3:
                raise SignalError("too early")
            return 7.0

        register_signal("late", late, grows=True)
        bound = bound_of("late", one_by_one(draft(1.0, tokens=2)), top_k=20)
        assert bound.value() is None
        bound.add(draft(1.0, tokens=1))
        assert bound.value() == pytest.approx(7.0)
        assert bound.may_fail


@pytest.mark.parametrize("name", sorted(GROWING | LIMITED))
def test_every_token_is_looked_at_once(name, monkeypatch):
    rule, looked = rules._rule(SIGNALS[name]), []
    monkeypatch.setattr(
        rules,
        "_RULES",
        ((SIGNALS[name], replace(rule, values=lambda part: looked.append(len(part)) or rule.values(part))),),
    )
    row = draft(1.0).top_logprobs[0]
    parts = [SequenceLogprobs(row[None], ["4"], row[:1]) for _ in range(200)]
    assert bound_of(name, parts, top_k=20, max_tokens=400).value() is not None
    assert looked == [1] * 200
