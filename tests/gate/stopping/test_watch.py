"""A draft is stopped before its end where, and only where, it is sure to be rejected."""

from __future__ import annotations

import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logprobs.test_streams import streams as streams_of_every_shape
from tests.samples import draft, profile
from tests.signals.streams import TEXTS, WORDS, streams
from tje_middleware import (
    EntropyGate,
    MissingLogprobs,
    ProfileKey,
    Route,
    SequenceLogprobs,
    Threshold,
    TjeWarning,
    UnreadableLogprobs,
    register_signal,
)
from tje_middleware.gate.sources import ProfileLookup
from tje_middleware.signals import SIGNALS, bound_kind, lower_bound
from tje_middleware.signals.learned import Feature, LearnedSignal

HOLE = {"choices": [{"index": 0, "delta": {"content": "text without logprobs"}, "logprobs": None}]}
UNREADABLE = {
    "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"top_logprobs": [2.0]}]}}]
}
SILENT = {"choices": [], "usage": {"completion_tokens": 3}}
BOUNDED = [name + part for name in sorted(SIGNALS) for part in ("", "@answer", "@thinking") if bound_kind(name)]


def key_of(signal, **more):
    return ProfileKey(model="m", task="t", **{"signal": signal, **more})


MADE = profile()


def gate_of(signal="total_entropy", threshold=2.0, *, top_k=20, verdict="usable", hopeless=None, **policies):
    found = {
        "key": key_of(signal, top_k=top_k),
        "thresholds": {**MADE.thresholds, "mean": Threshold(value=threshold)},
        "verdict": verdict,
        "abstain": None if hopeless is None else Threshold(value=hopeless),
    }
    return EntropyGate(MADE.model_copy(update=found), **policies)


def token(bits, **made):
    return draft(bits, tokens=1, **made)


def fired_at(watch, chunks):
    """How many chunks it took to reject the draft; None where it was not rejected."""
    return next((number for number, chunk in enumerate(chunks, 1) if watch.add(chunk) is not None), None)


class TestADraftThatIsSureToBeRejected:
    def test_is_rejected_by_the_token_that_makes_it_sure(self):
        assert fired_at(gate_of(threshold=2.0).watch(), [token(0.9)] * 9) == 3

    def test_is_rejected_with_the_bound_and_the_tokens_that_came(self):
        watch = gate_of(threshold=2.0).watch()
        for _ in range(3):
            decision = watch.add(token(0.9))
        assert (decision.route, decision.reason, decision.aborted) == (Route.DEEPER, "uncertain", True)
        assert (decision.signal, decision.method, decision.verdict) == ("total_entropy", "mean", "usable")
        assert (decision.signal_value, decision.threshold, decision.tokens) == (pytest.approx(2.7), 2.0, 3)
        assert decision.detail == (
            "whatever follows the first 3 tokens, total_entropy is at least 2.7: above the threshold 2"
        )
        assert json.loads(json.dumps(decision.as_dict())) == decision.as_dict()

    def test_stays_rejected(self):
        watch = gate_of(threshold=2.0).watch()
        first = watch.add(draft(0.9, tokens=3))
        assert [watch.add(chunk) for chunk in (token(0.1), SILENT, HOLE, UNREADABLE)] == [first] * 4
        assert watch.decision is first

    def test_of_few_enough_tokens_is_known_by_its_mean(self):
        watch = gate_of("mean_entropy", 0.5).watch(max_tokens=10)
        assert fired_at(watch, [token(0.9)] * 9) == 6

    @pytest.mark.parametrize("shape", streams_of_every_shape())
    def test_is_seen_in_every_shape_of_a_stream(self, shape):
        chunks = streams_of_every_shape()[shape]
        watch = gate_of("length", 2.5, top_k=3).watch()
        decision = next(filter(None, map(watch.add, chunks)))
        assert (decision.route, decision.tokens) == (Route.DEEPER, 3)

    def test_leaves_what_came_to_be_decided_about_as_ever(self):
        watch = gate_of(threshold=2.0).watch()
        for _ in range(4):
            watch.add(token(0.9))
        assert len(watch.result()) == 4
        assert gate_of(threshold=2.0).decide(watch.result()).route is watch.decision.route

    def test_of_a_weak_profile_is_rejected_and_the_weakness_is_said_once(self):
        gate = gate_of(verdict="weak")
        with pytest.warns(TjeWarning, match="is weak"):
            watch = gate.watch()
        assert watch.add(draft(0.9, tokens=3)) is not None
        assert gate.watch().can_fire

    def test_of_an_unusable_profile_is_rejected_where_that_is_used_by_choice(self):
        assert gate_of(verdict="unusable", on_unusable="use").watch().add(draft(0.9, tokens=3)) is not None

    def test_is_rejected_by_a_threshold_set_by_hand(self):
        watch = gate_of(threshold=99.0).with_threshold(2.0).watch()
        decision = watch.add(draft(0.9, tokens=3))
        assert (decision.method, decision.threshold) == ("given", 2.0)

    def test_of_a_users_growing_signal_is_rejected(self):
        register_signal("half", lambda sequence: len(sequence) / 2, grows=True)
        assert fired_at(gate_of("half", 2.0).watch(), [token(0.9)] * 9) == 5


class TestADraftThatCannotBeJudged:
    """It takes the route that ``on_missing`` says, and that is no rejection."""

    @pytest.mark.parametrize(
        ("gate", "known"),
        [
            (gate_of(verdict="unusable"), {}),
            (gate_of(verdict="weak", strict=True), {}),
            (gate_of(), {"model": "another"}),
            (gate_of("mean_entropy"), {}),  # without a limit
            (gate_of("tail_entropy"), {"max_tokens": 9}),
            (gate_of("total_nll", on_missing="final"), {}),
            (gate_of("total_nll", hopeless=2.0, abstain=True), {}),
        ],
    )
    def test_is_not_watched_where_that_is_known_before(self, gate, known):
        watch = gate.watch(**known)
        assert not watch.can_fire
        assert fired_at(watch, [draft(4.0)] * 9) is None

    @pytest.mark.parametrize("policy", ["deeper", "final", "raise"])
    def test_nor_is_one_without_a_profile_and_nobody_raises(self, policy):
        class Nothing:
            def lookup(self, key):
                return ProfileLookup(None, problem="there is none")

        gate = EntropyGate.from_registry(Nothing(), model="m", task="t", signal="total_entropy", on_missing=policy)
        assert not gate.watch().can_fire
        assert fired_at(gate.watch(), [draft(4.0)] * 9) is None

    @pytest.mark.parametrize(
        ("key", "known"),
        [({"temperature": 0.7}, {"temperature": 0.0}), ({"prompt_fingerprint": "a"}, {"prompt_fingerprint": "b"})],
    )
    def test_nor_is_one_made_otherwise(self, key, known):
        gate = EntropyGate(profile(2.0, key=key_of("total_entropy", **key)))
        assert not gate.watch(**known).can_fire
        assert gate.watch().can_fire

    def test_nor_is_one_whose_signal_this_process_does_not_know(self):
        register_signal("mine", len, grows=True)
        gate = gate_of("mine")
        del SIGNALS["mine"]
        assert not gate.watch().can_fire

    def test_nor_is_one_of_a_learned_signal(self):
        learned = LearnedSignal(
            intercept=0.0, features=(Feature(signal="total_entropy", center=0.0, scale=1.0, weight=1.0),)
        )
        made = profile(0.5, key=key_of("auto")).model_copy(update={"chosen_signal": "learned", "learned": learned})
        assert not EntropyGate(made).watch(max_tokens=9).can_fire

    def test_is_not_rejected_before_it_has_min_tokens(self):
        assert fired_at(gate_of(threshold=0.5, min_tokens=4).watch(), [token(0.9)] * 9) == 4

    def test_an_empty_token_that_may_end_the_turn_is_none_of_them(self):
        row = draft(0.9, tokens=1).top_logprobs
        chunks = [SequenceLogprobs(row, [text]) for text in ("a", "b", "", "c")]
        assert fired_at(gate_of(threshold=0.5, min_tokens=3).watch(), chunks) == 4

    def test_is_not_rejected_before_it_has_the_alternatives_of_the_profile(self):
        chunks = [token(0.9, top_k=5), token(0.9, top_k=5), token(0.9)]
        assert fired_at(gate_of(threshold=0.5).watch(), chunks) == 3

    def test_is_not_rejected_with_a_hole_in_it(self):
        assert fired_at(gate_of(threshold=0.5).watch(), [HOLE, *[token(0.9)] * 9]) is None

    def test_is_not_rejected_from_the_first_unreadable_chunk_on(self):
        watch = gate_of(threshold=2.0).watch()
        assert fired_at(watch, [token(0.9), UNREADABLE, *[token(0.9)] * 9]) is None
        assert not watch.can_fire
        with pytest.raises(UnreadableLogprobs):
            watch.result()

    @pytest.mark.parametrize("chunk", [None, 7, "text", {}, object(), [], np.full((1, 20), np.nan)])
    def test_nothing_that_comes_raises(self, chunk):
        watch = gate_of().watch()
        assert watch.add(chunk) is None

    def test_that_never_came_is_an_error_of_the_result(self):
        watch = gate_of().watch()
        watch.add(SILENT)
        with pytest.raises(MissingLogprobs):
            watch.result()

    def test_is_not_rejected_once_it_is_longer_than_was_said(self):
        assert fired_at(gate_of("mean_entropy", 0.5).watch(max_tokens=2), [draft(0.9, tokens=3)] * 3) is None

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_is_at_least_one_token(self, limit):
        with pytest.raises(ValueError, match="max_tokens"):
            gate_of().watch(max_tokens=limit)


class TestAbstaining:
    gate = gate_of(threshold=1.0, hopeless=2.0, abstain=True)

    def test_between_uncertain_and_hopeless_the_route_is_not_known_yet(self):
        assert fired_at(self.gate.watch(), [token(0.9)] * 9) == 3

    def test_what_is_sure_to_be_hopeless_is_given_up(self):
        decision = self.gate.watch().add(draft(0.9, tokens=3))
        assert (decision.route, decision.reason) == (Route.ABSTAIN, "hopeless")

    def test_what_is_accepted_is_not_hopeless(self):
        assert fired_at(gate_of(threshold=3.0, hopeless=2.0, abstain=True).watch(), [token(0.9)] * 9) == 4

    def test_without_it_the_draft_goes_deeper_as_soon_as_it_is_uncertain(self):
        assert fired_at(gate_of(threshold=1.0, hopeless=2.0).watch(), [token(0.9)] * 9) == 2


@st.composite
def gates(draw):
    hopeless = draw(st.none() | st.floats(0.0, 6.0))
    policies = {
        "min_tokens": draw(st.integers(1, 4)),
        "on_missing": draw(st.sampled_from(["deeper", "final", "raise"])),
        "abstain": draw(st.booleans()),
    }
    threshold = draw(st.floats(-0.5, 4.0))
    signal = draw(st.sampled_from(BOUNDED))
    if signal.startswith("deepconf"):
        threshold -= 3.0
    return gate_of(signal, threshold, top_k=draw(st.integers(1, 3)), hopeless=hopeless, **policies)


class TestWhateverFollows:
    @settings(deadline=None, max_examples=600)
    @given(gates(), streams(), st.none() | st.integers(0, 3), st.lists(st.integers(0, 14), max_size=2))
    def test_a_rejected_draft_is_rejected_by_the_same_route(self, gate, parts, more, holes):
        limit = None if more is None else sum(map(len, parts)) + more
        watch = gate.watch(max_tokens=limit)
        chunks = [*parts]
        for place in holes:
            chunks.insert(place, HOLE)
        for chunk in chunks:
            watch.add(chunk)
        if watch.decision is None:
            return
        assert watch.can_fire
        try:
            whole = watch.result()
        except UnreadableLogprobs:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TjeWarning)
            decision = gate.decide(whole)
        assert decision.route is watch.decision.route
        assert decision.signal_value is None or decision.signal_value >= watch.decision.signal_value

    @settings(deadline=None, max_examples=300)
    @given(st.sampled_from(BOUNDED), st.floats(0.0, 4.0), streams(texts=(*WORDS, *TEXTS[:7]), plain=True))
    def test_it_is_rejected_at_the_first_token_at_which_the_bound_exceeds_the_threshold(self, name, threshold, parts):
        limit = sum(map(len, parts)) + 1
        watch = gate_of(name, threshold, top_k=2).watch(max_tokens=limit)
        bound = lower_bound(name, top_k=2, max_tokens=limit)
        for part in parts:
            bound.add(part)
            exceeds = bound.value() is not None and bound.value() > threshold
            fired = watch.add(part) is not None
            assert fired == exceeds
            if fired:
                assert watch.decision.signal_value == bound.value()
                return


class TestCost:
    def test_a_users_signal_sees_a_few_times_the_tokens_in_all(self):
        seen = []

        def mine(sequence):
            seen.append(len(sequence))
            return 0.0

        register_signal("mine", mine, grows=True)
        assert fired_at(gate_of("mine").watch(), [token(0.9)] * 500) is None
        assert sum(seen) <= 6 * 500

    def test_a_stream_with_a_hole_is_put_together_ever_more_seldom(self, monkeypatch):
        joined = []
        concatenate = SequenceLogprobs.concatenate
        monkeypatch.setattr(
            SequenceLogprobs, "concatenate", lambda parts: joined.append(len(parts)) or concatenate(parts)
        )
        assert fired_at(gate_of(threshold=0.5).watch(), [HOLE, *[token(0.9)] * 500]) is None
        assert sum(joined) <= 6 * 500

    def test_a_stream_without_is_put_together_once(self, monkeypatch):
        joined = []
        concatenate = SequenceLogprobs.concatenate
        monkeypatch.setattr(
            SequenceLogprobs, "concatenate", lambda parts: joined.append(len(parts)) or concatenate(parts)
        )
        assert fired_at(gate_of(threshold=100.0).watch(), [token(0.9)] * 200) == 112
        assert joined == [112]


class TestSharing:
    def test_watches_of_one_gate_know_nothing_of_each_other(self):
        gate = gate_of(threshold=2.0)
        first, second = gate.watch(), gate.watch()
        assert first.add(draft(0.9, tokens=3)) is not None
        assert second.add(draft(0.9, tokens=2)) is None

    def test_two_hundred_threads_each_get_their_own(self):
        gate = gate_of(threshold=50.0)
        wanted = [(0.5 + 0.01 * (n % 40)) for n in range(200)]
        with ThreadPoolExecutor(max_workers=200) as pool:
            found = list(pool.map(lambda bits: fired_at(gate.watch(), [token(bits)] * 120), wanted))
        assert found == [next(n for n in range(1, 121) if n * bits > 50.0 + 1e-6) for bits in wanted]

    def test_a_gate_goes_to_another_process_as_before(self):
        gate = gate_of(threshold=2.0).with_threshold(1.0)
        for copy in (pickle.loads(pickle.dumps(gate)), deepcopy(gate)):
            assert copy.watch().add(draft(0.9, tokens=2)).threshold == 1.0

    def test_the_profile_is_that_of_when_the_watch_was_made(self):
        class Store:
            made = profile(2.0, key=key_of("total_entropy"), version=1)

            def lookup(self, key):
                return ProfileLookup(self.made)

        store = Store()
        watch = EntropyGate.from_registry(store, model="m", task="t", signal="total_entropy").watch()
        store.made = profile(99.0, key=key_of("total_entropy"), version=2)
        assert watch.add(draft(0.9, tokens=3)).profile_version == 1
