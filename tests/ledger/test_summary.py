"""Summaries by key and day: counts, tokens, money and risk, the same from both databases."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from io import StringIO
from statistics import median
from types import SimpleNamespace

import pytest
from rich.console import Console
from scipy.stats import binomtest
from sqlalchemy import insert

from tests.ledger.decisions import ACCEPTED, DEEPER, GIVEN_UP, KEY, decision, profile_with_costs
from tests.samples import KEY as PROFILE_KEY
from tje_middleware import CalibrationRegistry, Route
from tje_middleware.calibration.profile import Alarm
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.cli.ledger import summary_table
from tje_middleware.ledger import DecisionLedger, PromiseKept, Unattributed
from tje_middleware.ledger import ledger as _ledger
from tje_middleware.ledger import money as prices
from tje_middleware.ledger.money import Rates, rates_on
from tje_middleware.ledger.queries import Range
from tje_middleware.ledger.summary import summarised
from tje_middleware.ledger.tables import DECISIONS, DROPS, FEEDBACK

DAY = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def ledger(any_url):
    with DecisionLedger(any_url) as held:
        yield held


@pytest.fixture
def at(monkeypatch):
    """Set the clock that decisions are recorded by."""

    def moved(moment):
        monkeypatch.setattr(_ledger, "time", SimpleNamespace(time=moment.timestamp))

    moved(DAY)
    return moved


def record(ledger, *decisions, **circumstances):
    for each in decisions:
        ledger.record(each, profile=profile_with_costs(), **circumstances)
    assert ledger.flush(30)


def test_counts_what_became_of_drafts(ledger):
    record(
        ledger,
        *(decision() for _ in range(5)),
        *(decision(DEEPER, stale=True) for _ in range(2)),
        decision(DEEPER, aborted=True, alarm="drift"),
        decision(GIVEN_UP),
        decision(DEEPER, reason="no_logprobs"),
        decision(DEEPER, reason="capped"),
    )
    (one,) = ledger.summary()
    assert (one.key, one.decisions, one.accepted, one.deeper, one.abstained) == (KEY, 11, 5, 5, 1)
    assert one.share_accepted == 5 / 11
    assert one.reasons == {"confident": 5, "uncertain": 3, "hopeless": 1, "no_logprobs": 1, "capped": 1}
    assert one.unjudged == {"no_logprobs": 1}
    assert (one.stale, one.aborted, one.alarmed) == (2, 1, 1)


def test_adds_up_what_was_spent_and_saved(ledger):
    open_one = decision(DEEPER, answered_by=None, draft_usage=None, deeper_usage=None)
    record(ledger, decision(), decision(), decision(DEEPER), open_one)
    (one,) = ledger.summary()
    assert (one.draft_input_tokens, one.draft_output_tokens) == (300, 30)
    assert (one.deeper_input_tokens, one.deeper_output_tokens) == (200, 300)
    assert (one.partly_known, one.saved_unknown) == (1, 1)
    assert (one.estimated, one.saved_estimated) == (2, 380.0)
    assert (one.measured, one.saved_measured) == (1, -10.0)


def test_is_by_day_in_utc_and_of_the_range_that_is_asked_for(ledger, at):
    east = timezone(timedelta(hours=9))
    for moment, count in ((datetime(2026, 3, 2, 8, tzinfo=east), 1), (datetime(2026, 3, 2, 9, tzinfo=east), 2)):
        at(moment)
        record(ledger, *(decision() for _ in range(count)))
    assert [(one.day, one.decisions) for one in ledger.summary()] == [(date(2026, 3, 1), 1), (date(2026, 3, 2), 2)]
    assert [(one.day, one.decisions) for one in ledger.summary(per="total")] == [(None, 3)]
    midnight = datetime(2026, 3, 2, tzinfo=timezone.utc)
    assert [one.decisions for one in ledger.summary(since=midnight)] == [2]
    assert [one.decisions for one in ledger.summary(until=midnight)] == [1]
    with pytest.raises(ValueError, match="zone"):
        ledger.summary(since=datetime(2026, 3, 2))


def test_is_by_key(ledger):
    record(ledger, decision(), decision(key="b"), decision(key="b"))
    assert [(one.key, one.decisions) for one in ledger.summary()] == [("b", 2), (KEY, 1)]
    assert [one.key for one in ledger.summary(key="b")] == ["b"]
    assert [one.key for one in ledger.summary(key=PROFILE_KEY)] == [KEY]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 11])
def test_latency_is_the_median(ledger, count):
    values = [random.Random(count).random() for _ in range(count)]
    for value in values:
        ledger.record(decision(), latency_seconds=value)
    record(ledger, decision())
    assert ledger.summary()[0].latency_seconds == pytest.approx(median(values))
    assert ledger.summary(per="total")[0].latency_seconds == pytest.approx(median(values))


def test_risk_is_that_of_confident_drafts_with_feedback_with_an_exact_interval(ledger):
    made = [decision() for _ in range(20)]
    uncertain, unjudged = decision(DEEPER), decision(reason="no_logprobs")
    record(ledger, *made, uncertain, unjudged, risk_limit=0.05)
    for place, each in enumerate(made[:15]):
        ledger.feedback(each.decision_id, correct=place > 2)
    for each in (uncertain, unjudged):
        ledger.feedback(each.decision_id, correct=False)
    # What was said of the draft itself counts more than what was said of the answer.
    ledger.feedback(made[14].decision_id, correct=True, draft_correct=False)
    ledger.feedback("nobody knows this one", correct=False)
    assert ledger.flush(30)
    (one,) = ledger.summary()
    assert (one.feedback, one.graded, one.wrong) == (17, 15, 4)
    assert one.risk == 4 / 15
    expected = binomtest(4, 15).proportion_ci(0.95, method="exact")
    assert one.risk_interval == pytest.approx((expected.low, expected.high))
    assert one.risk_limit == 0.05
    assert ledger.unattributed() == Unattributed(dropped=0, unmatched_feedback=1)


class TestAPromise:
    def summary(self, ledger, *parts):
        """Of drafts accepted by (limit, wrong, right)."""
        for limit, wrong, right in parts:
            made = [decision(method="mean" if limit is None else "risk") for _ in range(wrong + right)]
            record(ledger, *made, risk_limit=limit)
            for place, each in enumerate(made):
                ledger.feedback(each.decision_id, correct=place >= wrong)
        assert ledger.flush(30)
        (one,) = ledger.summary()
        return one

    def test_is_not_broken_by_drafts_that_nothing_was_promised_of(self, ledger):
        one = self.summary(ledger, (None, 30, 0), (0.05, 0, 10))
        assert (one.wrong, one.graded) == (30, 40)
        assert one.promises == (PromiseKept(0.05, graded=10, wrong=0),)
        assert not one.promise.is_broken

    def test_that_is_shown_is_the_strictest_of_the_broken_ones(self, ledger):
        one = self.summary(ledger, (0.05, 0, 10), (0.2, 10, 0), (0.3, 10, 0))
        assert (one.risk_limit, one.promise.is_broken) == (0.2, True)
        assert [each["is_broken"] for each in one.as_dict()["promises"]] == [False, True, True]

    def test_that_is_kept_is_shown_as_the_strictest(self, ledger):
        one = self.summary(ledger, (0.2, 0, 10), (0.05, 0, 10))
        assert (one.risk_limit, one.promise.is_broken) == (0.05, False)

    def test_may_not_have_been_made(self, ledger):
        one = self.summary(ledger, (None, 30, 0))
        assert one.risk_limit is one.promise is None


def test_risk_is_unknown_without_feedback(ledger):
    record(ledger, decision())
    assert ledger.summary()[0].risk is ledger.summary()[0].risk_interval is None


def test_has_alarms_of_days_without_decisions_too(any_url, ledger, at):
    registry = CalibrationRegistry(any_url)
    version = registry.put(profile_with_costs())
    registry.store_alarm(PROFILE_KEY, Alarm("drift", "it moved", version=version, raised_at=DAY))
    at(DAY + timedelta(days=1))
    record(ledger, decision())
    assert [(one.key, one.decisions, one.alarms) for one in ledger.summary()] == [(KEY, 0, 1), (KEY, 1, 0)]
    assert [one.alarms for one in ledger.summary(until=DAY)] == []
    registry.close()


def test_is_fit_for_json(ledger):
    record(ledger, decision())
    plain = json.loads(json.dumps(ledger.summary()[0].as_dict(), allow_nan=False))
    assert (plain["decisions"], plain["share_accepted"], plain["risk_interval"]) == (1, 1.0, None)


def test_of_an_empty_database_is_empty(ledger):
    assert ledger.summary() == []
    assert ledger.unattributed() == Unattributed()


RATES = {"small": Rates(1.0, 10.0), "large": Rates(100.0, 1000.0)}


class TestMoney:
    def summary(self, ledger, **options):
        def rates(model, day):
            return RATES.get(model)

        (one,) = summarised(ledger.database, Range(), rates=rates, **options)
        return one

    def test_is_that_of_each_model(self, ledger):
        record(ledger, decision(), decision(DEEPER), draft_model="small", deeper_model="large")
        one = self.summary(ledger)
        drafts = 100 * 1.0 + 10 * 10.0
        assert one.usd_spent == 2 * drafts + 200 * 100.0 + 300 * 1000.0
        assert one.usd_saved_measured == -drafts
        assert one.usd_saved_estimated == 200 * 1000.0 - 10 * 10.0

    def test_is_zero_for_a_draft_that_is_needed_anyway(self, any_url):
        models = {"draft_model": "small", "deeper_model": "large"}
        with DecisionLedger(any_url) as ledger:
            record(ledger, decision(), decision(DEEPER), **models, deeper_includes_draft=True)
            one = self.summary(ledger)
            assert (one.usd_saved_measured, one.usd_saved_estimated) == (0.0, 200 * 1000.0)
            # Beside those of another branch.
            record(ledger, decision(), decision(DEEPER), **models)
            one = self.summary(ledger)
        drafts = 100 * 1.0 + 10 * 10.0
        assert one.usd_saved_measured == -drafts
        assert one.usd_saved_estimated == 2 * 200 * 1000.0 - 10 * 10.0

    def test_is_a_bound_where_not_all_of_a_draft_is_known(self, ledger):
        partly = TokenUsage(100, 10, 2, partly_known=1)
        record(ledger, decision(), decision(draft_usage=partly), decision(DEEPER, draft_usage=partly))
        record(ledger, decision(draft_usage=partly), deeper_includes_draft=True)
        (one,) = ledger.summary()
        assert (one.partly_known, one.measured_up_to, one.estimated_up_to) == (3, 1, 1)

    def test_of_tokens_not_spent_is_that_of_the_model_that_mostly_goes_deeper_or_that_is_named(self, ledger):
        record(ledger, decision(), draft_model="small")
        assert self.summary(ledger).usd_saved_estimated is None  # nobody has gone deeper yet
        assert self.summary(ledger, deeper_model="large").usd_saved_estimated == 200 * 1000.0 - 100.0
        record(ledger, decision(DEEPER), draft_model="small", deeper_model="other")
        record(ledger, decision(DEEPER), decision(DEEPER), draft_model="small", deeper_model="large")
        assert self.summary(ledger).usd_saved_estimated == 200 * 1000.0 - 100.0
        assert self.summary(ledger).usd_spent is None  # that of "other" is not known

    @pytest.mark.parametrize("uncounted", [None, TokenUsage()], ids=["none", "of no call"])
    def test_of_tokens_that_nobody_counted_is_unknown(self, ledger, uncounted):
        record(ledger, decision(draft_usage=uncounted), draft_model="small")
        one = self.summary(ledger)
        assert (one.usd_spent, one.partly_known) == (None, 1)

    @pytest.mark.parametrize("uncounted", [None, TokenUsage()], ids=["none", "of no call"])
    def test_is_a_bound_where_nobody_counted_what_the_deeper_branch_spent(self, ledger, uncounted):
        record(ledger, decision(DEEPER, deeper_usage=uncounted), draft_model="small", deeper_model="large")
        one = self.summary(ledger)
        assert (one.usd_spent, one.partly_known) == (100 * 1.0 + 10 * 10.0, 1)

    def test_saved_by_a_draft_that_nobody_counted_is_of_the_tokens_that_its_logprobs_cover(self, ledger):
        record(ledger, decision(draft_usage=TokenUsage()), draft_model="small")
        one = self.summary(ledger, deeper_model="large")
        assert (one.saved_estimated, one.usd_saved_estimated) == (190.0, 200 * 1000.0 - 10 * 10.0)

    def test_of_tokens_that_were_told_without_the_calls_is_a_bound(self, ledger):
        record(ledger, decision(draft_usage=TokenUsage(100, 10)), draft_model="small")
        one = self.summary(ledger)
        assert (one.usd_spent, one.partly_known) == (100 * 1.0 + 10 * 10.0, 1)

    def test_of_what_was_not_saved_is_unknown_and_needs_no_price(self, ledger):
        record(ledger, decision(reason="no_logprobs"), draft_model="small")
        one = self.summary(ledger)
        assert (one.usd_saved_measured, one.usd_saved_estimated, one.unpriced) == (None, None, ())
        shown = StringIO()
        Console(file=shown, width=200).print(summary_table([one], Unattributed()))
        assert "?" not in shown.getvalue()

    @pytest.mark.parametrize("model", [None, "nobody's"])
    def test_that_is_unknown_is_none_and_never_zero(self, ledger, model):
        record(ledger, decision(), decision(DEEPER), draft_model=model, deeper_model="large")
        one = self.summary(ledger)
        assert one.usd_spent is one.usd_saved_measured is one.usd_saved_estimated is None


class TestPriceList:
    def test_knows_models_with_and_without_their_provider(self):
        pytest.importorskip("genai_prices")
        today = date(2026, 3, 1)
        assert rates_on("gpt-4.1-mini", today) == Rates(pytest.approx(0.4e-6), pytest.approx(1.6e-6))
        assert rates_on("openai:gpt-4.1-mini", today) == rates_on("gpt-4.1-mini-2025-04-14", today)

    @pytest.mark.parametrize(
        "model",
        [
            "gpt-4.1-mini-2025-04-14",
            "claude-3-5-sonnet-20241022",
            "claude-3-5-sonnet-latest",
            "claude-sonnet-4-20250514",
            "claude-3-haiku@20240307",
            "models/gemini-2.0-flash-001",
            "google:publishers/google/models/gemini-2.0-flash",
            "gemini-2.5-pro-preview-05-06",
            "gemini-2.5-pro-preview-06-05",
            "gemini-2.5-pro-exp-03-25",
            "gemini-2.0-flash-thinking-exp-01-21",
            "google:claude-3-5-sonnet-v2@20241022",
            "bedrock:us.anthropic.claude-sonnet-4-20250514-v1:0",
            "openai:ft:gpt-4o-2024-08-06:acme::abc",
            "Deepseek-Chat",
        ],
    )
    def test_knows_editions_of_a_model(self, model):
        pytest.importorskip("genai_prices")
        assert rates_on(model, date(2026, 3, 1)) is not None

    @pytest.mark.parametrize(
        "model",
        [
            None,
            "",
            "nobody's",
            "nobody:gpt-4.1-mini",
            "text-embedding-3-small",
            "deepseek-r1:7b",  # runs here, for nothing
            "deepseek-r1-distill-qwen-7b",
            "claude-3-5-sonnet-mine",
            "anthropic:claude-3-5-sonnet-mine",
            "azure:o4-mini-deep-research",  # costs more than o4-mini, which is all that the list has there
            "my-gemini-1.5-flash",
        ],
    )
    def test_does_not_guess(self, model):
        assert rates_on(model, date(2026, 3, 1)) is None

    def test_that_is_not_installed_knows_nothing(self, monkeypatch):
        monkeypatch.setattr(prices, "has_price_list", lambda: False)
        rates_on.cache_clear()
        assert rates_on("gpt-4.1-mini", date(2026, 3, 1)) is None
        rates_on.cache_clear()


def test_prune_deletes_what_is_older_and_its_feedback(ledger, at, any_url, rows):
    old, new = decision(), decision()
    record(ledger, old)
    for name in (old.decision_id, new.decision_id, "nobody's"):
        ledger.feedback(name, correct=True)
    assert ledger.flush(30)
    at(DAY + timedelta(days=1))
    record(ledger, new)
    assert ledger.prune(DAY + timedelta(hours=1)) == 1
    for table in (DECISIONS, FEEDBACK):
        assert Counter(row["decision_id"] for row in rows(any_url, table)) == Counter([new.decision_id])
    assert ledger.prune(DAY + timedelta(hours=1)) == 0


def test_prune_deletes_reports_of_drops_that_are_older(ledger):
    for id_, moment in ((1, DAY), (2, DAY + timedelta(days=1))):
        values = {"id": id_, "at": moment, "recorded_by": "h:1", "decisions": 5, "refused": 0}
        with ledger.database.writing() as connection:
            connection.execute(insert(DROPS).values(**values))
    ledger.prune(DAY + timedelta(hours=1))
    assert ledger.unattributed() == Unattributed(dropped=5)


def test_labelled_decisions_know_the_drafts_label_whatever_was_delivered(ledger):
    made = {
        "accepted": decision(),
        "deeper": decision(DEEPER),
        "deeper, its draft unknown": decision(DEEPER),
        "failed": decision(DEEPER, reason="branch_failed", answered_by="draft", deeper_usage=None),
        "aborted": decision(DEEPER, aborted=True),
        "no signal": decision(signal_value=None),
        "another version": decision(profile_version=2),
        "open": decision(answered_by=None),
        "given up": decision(GIVEN_UP, route=Route.ABSTAIN, answered_by="human"),
    }
    record(ledger, *made.values())
    ids = {name: each.decision_id for name, each in made.items()}
    for name in ("accepted", "failed", "no signal", "another version", "open", "given up"):
        ledger.feedback(ids[name], correct=False)
    for name in ("deeper", "aborted"):
        ledger.feedback(ids[name], correct=True, draft_correct=False)
    ledger.feedback(ids["deeper, its draft unknown"], correct=True)
    assert ledger.flush(30)
    found = [
        (one.signal_value, one.correct, one.tokens, one.deeper_correct, one.deeper_tokens)
        for one in ledger.labelled(PROFILE_KEY, version=1)
    ]
    assert sorted(found, key=str) == sorted(
        [
            (0.2, False, 10, None, None),  # accepted
            (0.9, False, 10, True, 300),  # deeper
            (0.9, False, 10, None, None),  # failed
            (0.2, False, 10, None, None),  # open
        ],
        key=str,
    )
    assert len(ledger.labelled(PROFILE_KEY)) == 5
    assert ACCEPTED.decision_id is None
