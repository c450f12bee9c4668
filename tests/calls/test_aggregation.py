"""An answer of several model calls: which of them speak for it, and what a gate then decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import KEY, draft, profile
from tje_middleware import EntropyGate, MissingLogprobs, Route, SequenceLogprobs, TjeWarning, TokenUsage
from tje_middleware.calls.aggregation import aggregated, in_words, with_advice
from tje_middleware.calls.log import ModelCall

pytestmark = pytest.mark.filterwarnings("ignore:a draft for:tje_middleware.TjeWarning")

SPENT = TokenUsage(input_tokens=10, output_tokens=4, calls=1)
RULES = ["worst", "last", "pooled"]
ONE_BIT = EntropyGate(profile(threshold=1.0), on_drift="ignore")


def call(name, bits, *, tokens=4, top_k=20, **settings):
    return ModelCall(name, draft(bits, tokens=tokens, top_k=top_k), SPENT, model="m", **settings)


def silent(name):
    return ModelCall(name, MissingLogprobs("nothing came"), SPENT, model="m")


@pytest.fixture
def gate():
    return EntropyGate(profile(threshold=1.0))


def decided(calls, rule, gate):
    speaking = aggregated(calls, rule, gate)
    return gate.decide(speaking.logprobs, model=speaking.model, temperature=speaking.temperature)


class TestOfNoCallOrOne:
    @pytest.mark.parametrize("rule", RULES)
    def test_an_answer_without_a_model_has_no_evidence_and_says_so(self, gate, rule):
        decision = decided([], rule, gate)
        assert (decision.route, decision.reason) == (Route.DEEPER, "no_logprobs")
        assert "no model was called" in decision.detail

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("only", [call("a", 0.5), silent("a")], ids=["measured", "silent"])
    def test_one_call_speaks_for_itself(self, gate, rule, only):
        assert aggregated([only], rule, gate) is only

    def test_a_rule_that_does_not_exist_is_refused_by_name(self, gate):
        with pytest.raises(ValueError, match="'best'"):
            aggregated([], "best", gate)


class TestWorst:
    def test_every_call_must_be_acceptable(self, gate):
        unsure = call("b", 3.0)
        assert aggregated([call("a", 0.2), unsure, call("c", 0.3)], "worst", gate) is unsure

    @pytest.mark.parametrize(
        "unjudged",
        [
            silent("x"),
            call("x", 0.1, top_k=5),
            replace(call("x", 0.1), model="another"),
            call("x", 0.1, temperature=0.7),
        ],
        ids=["silent", "few alternatives", "another model", "another temperature"],
    )
    def test_a_call_that_cannot_be_judged_is_worse_than_any_that_can(self, unjudged):
        gate = EntropyGate(profile(threshold=1.0, key=KEY.model_copy(update={"temperature": 0.0})))
        assert aggregated([call("a", 4.0), unjudged, call("c", 0.3)], "worst", gate) is unjudged

    def test_so_is_one_with_too_few_tokens(self):
        gate = EntropyGate(profile(threshold=1.0), min_tokens=3)
        short = call("b", 0.1, tokens=2)
        assert aggregated([call("a", 4.0), short], "worst", gate) is short

    def test_of_equals_the_first_speaks(self, gate):
        first = call("a", 0.5)
        assert aggregated([first, call("b", 0.5)], "worst", gate) is first

    def test_the_signal_that_counts_is_the_gates(self):
        longest = EntropyGate(profile(threshold=6.0, key=KEY.model_copy(update={"signal": "length"})))
        long = call("a", 0.1, tokens=9)
        assert aggregated([long, call("b", 3.0)], "worst", longest) is long

    def test_a_gate_that_raises_does_so_when_it_decides_and_not_before(self):
        gate = EntropyGate(profile(threshold=1.0), on_missing="raise")
        assert aggregated([call("a", 0.5), silent("b")], "worst", gate).run_id == "b"

    @pytest.mark.filterwarnings("error")
    def test_choosing_warns_of_nothing(self, gate):
        aggregated([call("a", 0.5), silent("b")], "worst", gate)
        with pytest.warns(TjeWarning, match="nothing came"):
            decided([call("a", 0.5), silent("b")], "worst", gate)

    @given(st.lists(st.sampled_from([0.1, 0.5, 0.9, 1.5, 3.0]), min_size=1, max_size=5))
    def test_accepts_exactly_where_every_call_alone_is_accepted(self, bits):
        calls = [call(str(number), each) for number, each in enumerate(bits)]
        alone = [ONE_BIT.decide(each.logprobs, model=each.model).accepted for each in calls]
        assert decided(calls, "worst", ONE_BIT).accepted == all(alone)


class TestLast:
    @pytest.mark.parametrize("last", [call("c", 0.1), silent("c")], ids=["measured", "silent"])
    def test_the_call_that_ended_last_speaks_alone(self, gate, last):
        assert aggregated([call("a", 4.0), silent("b"), last], "last", gate) is last


class TestPooled:
    def test_all_tokens_are_one_sequence(self, gate):
        decision = decided([call("a", 0.4, tokens=6), call("b", 1.6, tokens=2)], "pooled", gate)
        assert decision.signal_value == pytest.approx((6 * 0.4 + 2 * 1.6) / 8)
        assert (decision.tokens, decision.accepted) == (8, True)

    def test_stands_for_all_calls_with_the_sum_of_what_they_spent(self, gate):
        unnamed = replace(call("b", 0.5), model=None, temperature=0.0)
        pooled = aggregated([call("a", 0.5), unnamed], "pooled", gate)
        assert (pooled.run_id, pooled.usage) == ("b", SPENT + SPENT)
        assert (pooled.model, pooled.temperature) == ("m", 0.0)

    @pytest.mark.parametrize(
        "foreign",
        [silent("x"), call("x", 0.1, top_k=5), replace(call("x", 0.1), model="another")],
        ids=["silent", "few alternatives", "another model"],
    )
    def test_what_does_not_belong_among_them_speaks_instead(self, gate, foreign):
        calls = [call("a", 0.2), foreign, call("c", 0.3)]
        assert aggregated(calls, "pooled", gate) is foreign
        assert decided(calls, "pooled", gate).route is Route.DEEPER

    def test_how_many_tokens_there_must_be_is_asked_of_the_whole(self):
        gate = EntropyGate(profile(threshold=1.0), min_tokens=5)
        calls = [call("a", 0.5, tokens=3), call("b", 0.5, tokens=3)]
        assert decided(calls, "pooled", gate).accepted
        assert decided(calls, "worst", gate).reason == "too_few_tokens"

    def test_a_call_whose_thinking_was_opened_by_its_prompt_leaves_the_others_answers_alone(self, gate):
        def said(*tokens):
            return ModelCall("r", SequenceLogprobs(draft(0.5, tokens=len(tokens)).top_logprobs, tokens), SPENT)

        calls = [said("yes", "indeed"), said("hm", "</think>", "no")]
        pooled = aggregated(calls, "pooled", gate).logprobs
        assert np.array_equal(pooled.thinking_mask, [False, False, True, True, False])


class TestInWords:
    @pytest.mark.parametrize("rule", RULES)
    def test_says_the_rule_and_how_many_calls(self, rule):
        assert "3 model calls" in in_words(rule, 3)

    @pytest.mark.parametrize("calls", [0, 1])
    def test_has_nothing_to_say_where_there_is_nothing_to_choose(self, calls):
        assert in_words("worst", calls) is None

    def test_tells_the_rules_apart(self):
        assert len({in_words(rule, 2) for rule in RULES}) == len(RULES)


class TestWithAdvice:
    @pytest.mark.parametrize("rule", ["worst", "pooled"])
    def test_suggests_the_call_that_wrote_the_answer_where_another_has_no_logprobs(self, rule):
        assert "aggregate='last'" in with_advice(rule, [silent("selection"), call("answer", 0.5)])

    @pytest.mark.parametrize(
        ("rule", "calls"),
        [
            ("last", [silent("a"), call("b", 0.5)]),
            ("worst", [call("a", 3.0), call("b", 0.5)]),
            ("worst", [call("a", 0.5), silent("b")]),
        ],
        ids=["is the rule", "all have logprobs", "it has none itself"],
    )
    def test_has_none_where_that_would_change_nothing(self, rule, calls):
        assert with_advice(rule, calls) == in_words(rule, 2)

    def test_has_nothing_to_say_of_one_call(self):
        assert with_advice("worst", [silent("a")]) is None
