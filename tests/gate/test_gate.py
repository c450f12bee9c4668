"""The gate's decisions and policies, over a profile in hand."""

from __future__ import annotations

import inspect
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest

from tests.samples import KEY, calibrate_samples, draft, profile, sample
from tje_middleware import (
    CalibrationError,
    CalibrationRegistry,
    EntropyGate,
    GateError,
    NoThreshold,
    ProfileKey,
    Route,
    SequenceLogprobs,
    SignalError,
    Threshold,
    TjeWarning,
    mean_entropy,
    register_signal,
)
from tje_middleware.gate.policy import GatePolicies, Policies
from tje_middleware.signals.learned import Feature, LearnedSignal

EMPTY = SequenceLogprobs(np.empty((0, 20)))
NOT_FINITE = np.full((3, 20), np.nan)
UNJUDGED = {
    "no_logprobs": None,
    "too_few_tokens": EMPTY,
    "unreadable_logprobs": NOT_FINITE,
    "other_settings": draft(0.2, top_k=5),
}


def warned(gate, *drafts, **known):
    """The warnings of deciding about these drafts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for one in drafts:
            gate.decide(one, **known)
    return [str(warning.message) for warning in caught if issubclass(warning.category, TjeWarning)]


def quietly(gate, one, **known):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)
        return gate.decide(one, **known)


class TestDecisions:
    def test_a_confident_draft_is_final(self):
        decision = EntropyGate(profile(0.5)).decide(draft(0.2))
        assert (decision.route, decision.reason) == (Route.FINAL, "confident")
        assert decision.accepted

    def test_an_uncertain_draft_goes_deeper(self):
        decision = EntropyGate(profile(0.5)).decide(draft(1.2))
        assert (decision.route, decision.reason) == (Route.DEEPER, "uncertain")
        assert not decision.accepted

    def test_a_value_at_the_threshold_is_accepted_and_one_just_above_is_not(self):
        value = mean_entropy(draft(0.7))
        assert EntropyGate(profile(value)).decide(draft(0.7)).accepted
        assert not EntropyGate(profile(np.nextafter(value, 0))).decide(draft(0.7)).accepted

    def test_a_decision_carries_its_grounds(self):
        decision = EntropyGate(profile(0.5, version=3)).decide(draft(0.2, tokens=7))
        assert decision.signal_value == pytest.approx(0.2)
        assert (decision.threshold, decision.method, decision.signal) == (0.5, "mean", "mean_entropy")
        assert (decision.tokens, decision.verdict, decision.profile_version, decision.stale) == (
            7,
            "usable",
            3,
            False,
        )

    @pytest.mark.parametrize("method", ["mean", "info", "bayes", "universal"])
    def test_the_method_chooses_the_threshold(self, method):
        made = profile()
        assert EntropyGate(made, method=method).decide(draft(0.2)).threshold == made.threshold(method)

    @pytest.mark.parametrize("one", [draft(0.2), draft(1.2), *UNJUDGED.values()])
    def test_a_decision_is_json(self, one):
        decision = quietly(EntropyGate(profile(version=1)), one)
        told = json.loads(json.dumps(decision.as_dict(), allow_nan=False))
        assert told["route"] == str(decision.route)
        assert told == decision.as_dict()

    def test_more_alternatives_than_the_profiles_give_the_signal_of_the_profiles(self):
        wide = np.concatenate([draft(0.9).top_logprobs, np.full((4, 1), -14.0)], axis=1)
        decision = EntropyGate(profile()).decide(wide)
        assert decision.signal_value == pytest.approx(0.9, abs=1e-12)

    def test_a_raw_payload_is_read(self):
        content = [
            {
                "token": "a",
                "logprob": row[0],
                "top_logprobs": [{"token": str(n), "logprob": x} for n, x in enumerate(row)],
            }
            for row in draft(0.2).top_logprobs.tolist()
        ]
        decision = EntropyGate(profile()).decide({"choices": [{"logprobs": {"content": content}}]})
        assert decision.signal_value == pytest.approx(0.2)


class TestMissing:
    @pytest.mark.parametrize(("reason", "one"), UNJUDGED.items())
    @pytest.mark.parametrize("route", ["deeper", "final"])
    def test_a_draft_that_cannot_be_judged_goes_where_on_missing_says(self, reason, one, route):
        decision = quietly(EntropyGate(profile(), on_missing=route), one)
        assert (decision.route, decision.reason) == (Route(route), reason)
        assert decision.signal_value is None
        assert decision.detail

    @pytest.mark.parametrize("one", UNJUDGED.values())
    def test_on_missing_raise_raises_with_the_reason(self, one):
        with pytest.raises(GateError, match=r"the draft cannot be judged: .+"):
            EntropyGate(profile(), on_missing="raise").decide(one)

    @pytest.mark.parametrize("one", [{}, {"choices": []}, [], "text", 7, object(), np.array([[0.5, 2.0]])])
    def test_no_payload_is_so_strange_that_it_is_accepted_or_raises(self, one):
        assert quietly(EntropyGate(profile(20.0)), one).route is Route.DEEPER

    def test_min_tokens_counts_measured_tokens(self):
        gate = EntropyGate(profile(), min_tokens=5)
        assert quietly(gate, draft(0.2, tokens=4)).reason == "too_few_tokens"
        assert gate.decide(draft(0.2, tokens=5)).accepted

    @pytest.mark.parametrize("signal", ["mean_entropy@thinking", "number_entropy", "mean_nll"])
    def test_a_draft_without_what_the_signal_measures_goes_deeper(self, signal):
        key = ProfileKey(model="m", task="t", signal=signal)
        decision = quietly(EntropyGate(profile(20.0, key=key)), draft(0.1))
        assert (decision.route, decision.reason) == (Route.DEEPER, "no_signal")


class TestAbstaining:
    hopeless = Threshold(value=1.0)

    def test_a_hopeless_draft_is_given_up_where_that_is_asked_for(self):
        known = profile(0.5).model_copy(update={"abstain": self.hopeless})
        gate = EntropyGate(known, abstain=True)
        assert [gate.decide(draft(bits)).route for bits in (0.2, 0.8, 1.2)] == [
            Route.FINAL,
            Route.DEEPER,
            Route.ABSTAIN,
        ]
        assert gate.decide(draft(1.2)).reason == "hopeless"

    def test_it_goes_deeper_where_that_is_not_asked_for(self):
        known = profile(0.5).model_copy(update={"abstain": self.hopeless})
        assert EntropyGate(known).decide(draft(1.2)).route is Route.DEEPER

    def test_accepting_comes_before_giving_up(self):
        known = profile(1.5).model_copy(update={"abstain": self.hopeless})
        assert EntropyGate(known, abstain=True).decide(draft(1.2)).route is Route.FINAL

    def test_a_rule_that_gives_up_by_itself_comes_before_the_profiles(self):
        rule = Threshold(value=0.5, abstain_from=1.4)
        known = profile(0.5)
        known = known.model_copy(update={"abstain": self.hopeless, "thresholds": {**known.thresholds, "cost": rule}})
        gate = EntropyGate(known, method="cost", abstain=True)
        assert gate.decide(draft(1.2)).route is Route.DEEPER
        assert gate.decide(draft(1.45)).route is Route.ABSTAIN

    def test_a_cost_rule_that_never_gives_up_is_kept_to(self):
        known = profile(0.5)
        known = known.model_copy(
            update={"abstain": self.hopeless, "thresholds": {**known.thresholds, "cost": Threshold(value=0.5)}}
        )
        assert EntropyGate(known, method="cost", abstain=True).decide(draft(4.0)).route is Route.DEEPER

    def test_nothing_is_given_up_where_nothing_is_shown_to_be_hopeless(self):
        known = profile(0.5).model_copy(update={"abstain": Threshold(reason="too few")})
        assert EntropyGate(known, abstain=True).decide(draft(4.0)).route is Route.DEEPER


class TestChosenSignal:
    def known(self, **found):
        return profile(0.5, key=KEY.model_copy(update={"signal": "auto"})).model_copy(update=found)

    def test_the_signal_that_calibration_chose_is_measured(self):
        decision = EntropyGate(self.known(chosen_signal="total_entropy")).decide(draft(0.3, tokens=4))
        assert (decision.signal, decision.route) == ("total_entropy", Route.DEEPER)
        assert decision.signal_value == pytest.approx(1.2)

    def test_a_learned_signal_is_measured_by_its_weights(self):
        part = Feature(signal="mean_entropy", center=0.1, scale=0.5, weight=2.0)
        learned = LearnedSignal(intercept=-2.0, features=(part,))
        decision = EntropyGate(self.known(chosen_signal="learned", learned=learned)).decide(draft(0.6))
        assert (decision.signal, decision.route) == ("learned", Route.FINAL)
        assert decision.signal_value == pytest.approx(-2.0 + 2.0 * (0.6 - 0.1) / 0.5)

    def test_one_that_is_not_known_here_is_refused_by_name(self):
        with pytest.raises(SignalError, match="my_signal"):
            EntropyGate(self.known(chosen_signal="my_signal"))


class TestSayingWhatIsMissing:
    @pytest.mark.parametrize("one", UNJUDGED.values())
    def test_it_is_said_once_and_not_per_call(self, one):
        said = warned(EntropyGate(profile()), *[one] * 5)
        assert len(said) == 1
        assert said[0].endswith("(said once)")

    def test_another_cause_is_said_too(self):
        assert len(warned(EntropyGate(profile()), *UNJUDGED.values(), *UNJUDGED.values())) == len(UNJUDGED)


class TestOtherSettings:
    key = ProfileKey(model="qwen:0.5b", task="t", temperature=0.7, prompt_fingerprint="abc")

    @pytest.mark.parametrize(
        ("known", "named"),
        [
            ({"model": "llama:0.5b"}, "llama:0.5b"),
            ({"temperature": 0.0}, "temperature 0.0"),
            ({"prompt_fingerprint": "xyz"}, "xyz"),
        ],
    )
    def test_a_draft_made_otherwise_is_not_judged(self, known, named):
        decision = quietly(EntropyGate(profile(key=self.key)), draft(0.1), **known)
        assert (decision.route, decision.reason) == (Route.DEEPER, "other_settings")
        assert named in decision.detail

    @pytest.mark.parametrize(
        "known",
        [{}, {"model": "qwen:0.5b", "temperature": 0.7, "prompt_fingerprint": "abc"}, {"model": "ollama/qwen:0.5b"}],
    )
    def test_a_draft_made_the_same_way_or_in_an_unknown_one_is(self, known):
        assert EntropyGate(profile(key=self.key)).decide(draft(0.1), **known).accepted

    def test_fewer_alternatives_are_not_judged_and_the_remedy_is_said(self):
        decision = quietly(EntropyGate(profile()), draft(0.1, top_k=5))
        assert (decision.route, decision.reason) == (Route.DEEPER, "other_settings")
        assert "top_logprobs=20" in decision.detail


class TestVerdicts:
    def test_an_unusable_profile_accepts_nothing_and_says_so_once(self):
        gate = EntropyGate(profile(verdict="unusable"))
        assert len(warned(gate, draft(0.01), draft(0.02))) == 1
        decision = gate.decide(draft(0.01))
        assert (decision.route, decision.reason, decision.verdict) == (Route.DEEPER, "unusable_profile", "unusable")
        assert decision.signal_value == pytest.approx(0.01)

    def test_an_unusable_profile_is_used_by_choice_and_without_a_warning(self):
        gate = EntropyGate(profile(verdict="unusable"), on_unusable="use")
        assert warned(gate, draft(0.2)) == []
        assert gate.decide(draft(0.2)).accepted

    def test_a_weak_profile_works_and_says_so_once(self):
        gate = EntropyGate(profile(verdict="weak"))
        (said,) = warned(gate, draft(0.2), draft(1.2), draft(0.2))
        assert "weak" in said
        assert gate.decide(draft(0.2)).accepted

    def test_a_weak_profile_is_unusable_to_a_strict_gate(self):
        decision = quietly(EntropyGate(profile(verdict="weak"), strict=True), draft(0.2))
        assert (decision.route, decision.reason) == (Route.DEEPER, "unusable_profile")
        assert "strict=True" in decision.detail


class TestConstruction:
    @pytest.mark.parametrize("policy", [{"on_missing": "accept"}, {"on_unusable": "ignore"}])
    def test_a_policy_that_does_not_exist_is_refused_with_those_that_do(self, policy):
        (name,) = policy
        with pytest.raises(ValueError, match=f"{name} must be one of '"):
            EntropyGate(profile(), **policy)

    def test_a_method_that_does_not_exist_is_refused_with_those_that_do(self):
        with pytest.raises(CalibrationError, match=r"no method 'median'.*mean, info, bayes, universal"):
            EntropyGate(profile(), method="median")

    def test_a_method_without_a_threshold_is_refused_with_the_reason(self):
        alone = calibrate_samples(sample(0.3, 0.1, 5), np.array([]), key=KEY)
        with pytest.raises(NoThreshold, match="2 incorrect drafts"):
            EntropyGate(alone, method="bayes")

    def test_an_unknown_signal_is_refused(self):
        with pytest.raises(SignalError, match="no signal 'mood'"):
            EntropyGate(profile(key=ProfileKey(model="m", task="t", signal="mood")))

    @pytest.mark.parametrize("least", [0, -1])
    def test_min_tokens_is_at_least_one(self, least):
        with pytest.raises(ValueError, match="min_tokens"):
            EntropyGate(profile(), min_tokens=least)

    def test_repr_names_key_method_and_policy(self):
        assert repr(EntropyGate(profile())) == (
            "EntropyGate(m / t / mean_entropy (top 20), method='mean', on_missing='deeper')"
        )


class TestSharing:
    def test_each_of_two_hundred_concurrent_decisions_belongs_to_its_own_draft(self):
        gate = EntropyGate(profile(1.0), on_drift="ignore")
        wanted = [(0.01 * (n + 1), n % 9 + 1) for n in range(200)]
        drafts = [draft(bits, tokens=tokens) for bits, tokens in wanted]
        with ThreadPoolExecutor(max_workers=200) as pool:
            decisions = list(pool.map(gate.decide, drafts))
        for (bits, tokens), decision in zip(wanted, decisions, strict=True):
            assert (decision.signal_value, decision.tokens) == (pytest.approx(bits), tokens)
            assert decision.accepted == (decision.signal_value <= 1.0)

    def test_two_hundred_threads_say_it_once(self):
        gate = EntropyGate(profile(verdict="weak"), on_drift="ignore")
        with (
            warnings.catch_warnings(record=True) as caught,
            ThreadPoolExecutor(max_workers=200) as pool,
        ):
            warnings.simplefilter("always")
            list(pool.map(gate.decide, [draft(0.2)] * 200))
        assert len(caught) == 1

    def test_two_gates_share_no_state(self):
        made = profile(verdict="weak")
        cautious, daring = EntropyGate(made), EntropyGate(made, on_missing="final", min_tokens=9)
        assert len(warned(cautious, draft(0.2), None)) == 2
        assert len(warned(daring, draft(0.2, tokens=9), None)) == 2
        assert (cautious.policies.min_tokens, cautious.policies.on_missing) == (1, "deeper")


class TestSignalsOfUsers:
    @pytest.mark.parametrize("given", [None, "0.1", [0.1], 1j, True, float("nan"), float("inf"), 10**400])
    def test_what_is_no_finite_number_is_never_confident(self, given):
        register_signal("mine", lambda _: given)
        decision = quietly(EntropyGate(profile(key=KEY.model_copy(update={"signal": "mine"}))), draft(0.1))
        assert (decision.route, decision.reason) == (Route.DEEPER, "no_signal")
        assert "'mine'" in decision.detail

    def test_one_that_fails_is_never_confident(self):
        def broken(sequence):
            raise RuntimeError("no such column")

        register_signal("broken", broken)
        decision = quietly(EntropyGate(profile(key=KEY.model_copy(update={"signal": "broken"}))), draft(0.1))
        assert (decision.route, decision.reason) == (Route.DEEPER, "no_signal")
        assert "'broken' failed: RuntimeError: no such column" in decision.detail

    @pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, int])
    def test_any_kind_of_number_is_a_float_in_the_decision(self, kind):
        register_signal("mine", lambda _: kind(0))
        decision = EntropyGate(profile(key=KEY.model_copy(update={"signal": "mine"}))).decide(draft(0.1))
        assert type(decision.signal_value) is float
        json.dumps(decision.as_dict())


class TestAThresholdSetByHand:
    def test_decides_and_is_named_given(self):
        gate = EntropyGate(profile(0.5)).with_threshold(1.5)
        decision = gate.decide(draft(1.2))
        assert (decision.route, decision.threshold, decision.method) == (Route.FINAL, 1.5, "given")
        assert not gate.decide(draft(1.6)).accepted
        assert repr(gate) == (
            "EntropyGate(m / t / mean_entropy (top 20), method='given', threshold=1.5, on_missing='deeper')"
        )

    def test_leaves_the_gate_as_it_was(self):
        gate = EntropyGate(profile(0.5))
        gate.with_threshold(1.5)
        decision = gate.decide(draft(1.2))
        assert (decision.route, decision.threshold, decision.method) == (Route.DEEPER, 0.5, "mean")

    def test_the_last_one_holds(self):
        assert EntropyGate(profile(0.5)).with_threshold(1.5).with_threshold(0.1).decide(draft(0.2)).threshold == 0.1

    def test_keeps_the_policies(self):
        gate = EntropyGate(profile(0.5), on_missing="final", min_tokens=9).with_threshold(0.1)
        assert quietly(gate, draft(1.2, tokens=8)).reason == "too_few_tokens"
        assert quietly(gate, None).route is Route.FINAL

    def test_does_not_make_an_unusable_profile_usable(self):
        gate = EntropyGate(profile(verdict="unusable")).with_threshold(9.0)
        assert quietly(gate, draft(0.1)).reason == "unusable_profile"

    def test_leaves_from_where_on_drafts_are_hopeless(self):
        known = profile(0.5).model_copy(update={"abstain": Threshold(value=1.0)})
        gate = EntropyGate(known, abstain=True).with_threshold(0.1)
        assert [gate.decide(draft(bits)).route for bits in (0.05, 0.3, 1.2)] == [
            Route.FINAL,
            Route.DEEPER,
            Route.ABSTAIN,
        ]

    def test_what_was_said_by_one_is_not_said_by_the_other(self):
        gate = EntropyGate(profile())
        assert len(warned(gate, None)) == 1
        assert warned(gate.with_threshold(0.1), None) == []

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.5", True, 1j])
    def test_is_a_finite_number(self, value):
        with pytest.raises(ValueError, match="finite number"):
            EntropyGate(profile()).with_threshold(value)

    def test_replaces_one_that_a_registrys_profile_lacks(self, tmp_path):
        registry = CalibrationRegistry(f"sqlite:///{tmp_path / 'tje.db'}")
        made = profile(0.5)
        registry.put(made.model_copy(update={"thresholds": {"mean": made.thresholds["mean"]}}))
        gate = EntropyGate.from_registry(registry, model="m", task="t", method="bayes", abstain=True)
        assert quietly(gate, draft(0.1)).reason == "unusable_profile"
        assert gate.with_threshold(1.5).decide(draft(1.2)).accepted
        registry.put(profile(0.7))
        assert gate.with_threshold(1.5).decide(draft(1.2)).profile_version == 2


class TestSayingOnce:
    def test_a_topic_is_warned_of_once_whoever_says_it(self):
        gate = EntropyGate(profile())
        with pytest.warns(TjeWarning, match=r"the branch failed \(said once\)"):
            gate.say_once("branch_failed", "the branch failed")
        gate.say_once("branch_failed", "the branch failed again")
        with pytest.warns(TjeWarning, match="another"):
            gate.say_once("another", "another cause")

    @pytest.mark.parametrize(
        "say",
        [
            lambda gate: gate.say_once("topic", "words"),
            lambda gate: gate.decide(None),
            lambda gate: gate.decide(draft(0.1)),
            lambda gate: gate.watch(),
        ],
    )
    def test_the_warning_points_at_the_code_that_uses_the_gate(self, say):
        gate = EntropyGate(profile(verdict="weak", key=KEY.model_copy(update={"signal": "total_entropy"})))
        with pytest.warns(TjeWarning) as caught:
            say(gate)
        assert caught[0].filename == __file__


def test_what_is_no_profile_is_refused_without_showing_it() -> None:
    class Model:
        def __repr__(self) -> str:
            return "Model(api_key='secret')"

    with pytest.raises(TypeError, match="profile must be a CalibrationProfile, or a source of one, not a Model"):
        EntropyGate(Model())


def test_what_a_gate_follows_a_registry_with_is_what_it_takes_with_a_profile() -> None:
    keywords = {
        name
        for name, parameter in inspect.signature(EntropyGate).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert set(GatePolicies.__optional_keys__) == keywords
    assert {each.name for each in fields(Policies)} - {"given"} <= keywords
