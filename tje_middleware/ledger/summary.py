"""Summaries of decisions: tokens and money spent and saved, by key and day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from ..storage import Database
from .money import RatesOn, rates_on
from .queries import JUDGED, Group, Per, Place, Range, alarms_raised, groups, median_latencies


@dataclass(frozen=True)
class PromiseKept:
    """The drafts that were accepted under one promise, with their feedback.

    Attributes:
        limit: The promised share of drafts that may be wrong.
        graded: Number of drafts with feedback.
        wrong: Number of wrong drafts among them.
    """

    limit: float
    graded: int = 0
    wrong: int = 0

    @property
    def is_broken(self) -> bool:
        """Whether the 95 % interval of the share of wrong drafts is above the limit."""
        interval = share_interval(self.wrong, self.graded)
        return interval is not None and interval[0] > self.limit


def promises_of(confident: Iterable[Group]) -> tuple[PromiseKept, ...]:
    """The promises about groups of accepted drafts, the strictest first."""
    counts: dict[float, Counter[str]] = {}
    for group in confident:
        if group.risk_limit is not None:
            counts.setdefault(group.risk_limit, Counter()).update(right=group.right, wrong=group.wrong)
    return tuple(PromiseKept(limit, count.total(), count["wrong"]) for limit, count in sorted(counts.items()))


def share_interval(wrong: int, graded: int) -> tuple[float, float] | None:
    """The exact 95 % interval of the share of wrong drafts (Clopper & Pearson 1934); None without feedback."""
    if not graded:
        return None
    from ..calibration.thresholds.exact_tests import binomial_lower, binomial_upper  # noqa: PLC0415 (scipy)

    return (
        float(binomial_lower(wrong, graded, delta=0.025)),
        float(binomial_upper(wrong, graded, delta=0.025)),
    )


@dataclass(frozen=True)
class DaySummary:
    """The decisions of one key on one day in UTC, or on all days together.

    Tokens spent are lower bounds where ``partly_known`` is not 0. Tokens saved are output tokens, against always
    going deeper, as ``savings_of`` counts them. Money is by list prices in US dollars, and None where a price is
    unknown: measured savings count all tokens of the drafts; estimated savings count output tokens only, as the
        tokens
    that the deeper branch would have read are unknown.

    Attributes:
        key: The key in words.
        day: The day; None: all days.
        decisions: Number of decisions.
        accepted: Decisions with the route final.
        deeper: Decisions with the route deeper, whether the deeper branch ran or not.
        abstained: Decisions with the route abstain.
        reasons: Decisions by reason.
        stale: Decisions by the last profile seen, as the registry could not be asked.
        aborted: Drafts that were stopped before their end.
        alarmed: Decisions while there was an alarm about the profile.
        alarms: Alarms that were raised.
        draft_input_tokens: Tokens read by drafts.
        draft_output_tokens: Tokens written by drafts.
        deeper_input_tokens: Tokens read by deeper branches.
        deeper_output_tokens: Tokens written by deeper branches.
        partly_known: Decisions of which not all tokens are known.
        measured: Decisions whose savings are measured.
        saved_measured: Tokens that they saved; negative, as drafts that went deeper cost more.
        estimated: Decisions whose savings are estimated from the profile.
        saved_estimated: Tokens that they saved.
        saved_unknown: Decisions whose savings are unknown.
        measured_up_to: Measured decisions whose saving is an upper bound, as not all of their tokens are known.
        estimated_up_to: Estimated decisions whose saving is an upper bound, likewise.
        usd_spent: Price of all known tokens; None: unknown.
        usd_saved_measured: Price of the measured savings; None: unknown, or there are none.
        usd_saved_estimated: Price of the estimated savings; None: unknown, or there are none.
        unpriced: Models whose price was needed and is unknown.
        unnamed: Whether a price was needed of a model whose name is unknown.
        feedback: Decisions with feedback.
        graded: Drafts that were accepted as confident and have feedback.
        wrong: Wrong drafts among them.
        promises: Promises about some of them, the strictest first.
        latency_seconds: Median from question to answer (seconds); None: unknown.
    """

    key: str
    day: date | None
    decisions: int = 0
    accepted: int = 0
    deeper: int = 0
    abstained: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    stale: int = 0
    aborted: int = 0
    alarmed: int = 0
    alarms: int = 0
    draft_input_tokens: int = 0
    draft_output_tokens: int = 0
    deeper_input_tokens: int = 0
    deeper_output_tokens: int = 0
    partly_known: int = 0
    measured: int = 0
    saved_measured: float = 0.0
    estimated: int = 0
    saved_estimated: float = 0.0
    saved_unknown: int = 0
    measured_up_to: int = 0
    estimated_up_to: int = 0
    usd_spent: float | None = None
    usd_saved_measured: float | None = None
    usd_saved_estimated: float | None = None
    unpriced: tuple[str, ...] = ()
    unnamed: bool = False
    feedback: int = 0
    graded: int = 0
    wrong: int = 0
    promises: tuple[PromiseKept, ...] = ()
    latency_seconds: float | None = None

    @property
    def share_accepted(self) -> float | None:
        """Share of all decisions that accepted the draft; None without decisions."""
        return self.accepted / self.decisions if self.decisions else None

    @property
    def unjudged(self) -> Mapping[str, int]:
        """Drafts that were not judged, by reason."""
        return {reason: count for reason, count in self.reasons.items() if reason not in JUDGED}

    @property
    def risk(self) -> float | None:
        """Share of wrong drafts among those with feedback; None without feedback."""
        return self.wrong / self.graded if self.graded else None

    @property
    def risk_interval(self) -> tuple[float, float] | None:
        """The exact 95 % interval of the risk (Clopper & Pearson 1934)."""
        return share_interval(self.wrong, self.graded)

    @property
    def promise(self) -> PromiseKept | None:
        """The strictest broken promise, else the strictest promise; None: there is none."""
        return next((one for one in self.promises if one.is_broken), next(iter(self.promises), None))

    @property
    def risk_limit(self) -> float | None:
        """The limit of the promise; None without a promise."""
        return None if self.promise is None else self.promise.limit

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain values, fit for JSON."""
        interval = self.risk_interval
        return {
            **asdict(self),
            "day": None if self.day is None else self.day.isoformat(),
            "reasons": dict(self.reasons),
            "unjudged": dict(self.unjudged),
            "share_accepted": self.share_accepted,
            "risk": self.risk,
            "risk_interval": None if interval is None else list(interval),
            "risk_limit": self.risk_limit,
            "promises": [{**asdict(one), "is_broken": one.is_broken} for one in self.promises],
        }


def summarised(
    database: Database,
    within: Range,
    *,
    deeper_model: str | None = None,
    per: Per = "day",
    rates: RatesOn = rates_on,
) -> list[DaySummary]:
    """The summaries of a range, by key and then by day; arguments as of ``DecisionLedger.summary``.

    Args:
        database: The ledger's database.
        within: The range of decisions.
        deeper_model: The model that would have written the saved tokens; None: that of most deeper answers of a key.
        per: The time that each summary covers.
        rates: Prices of tokens.
    """
    found = groups(database, within)
    latencies = median_latencies(database, within, per)
    alarms = alarms_raised(database, within, per)
    mostly = {} if deeper_model else _deeper_models(found)
    by_place: dict[Place, list[Group]] = {place: [] for place in alarms}
    for group in found:
        by_place.setdefault(Place(group.key, group.day if per == "day" else None), []).append(group)
    return [
        _summary(
            place,
            by_place[place],
            _Money(rates, deeper_model or mostly.get(place.key)),
            alarms=alarms.get(place, 0),
            latency=latencies.get(place),
        )
        for place in sorted(by_place, key=lambda place: (place.key, place.day or date.min))
    ]


def _deeper_models(found: Iterable[Group]) -> dict[str, str]:
    """The model of most deeper answers, by key."""
    counts: dict[str, Counter[str]] = {}
    for group in found:
        if group.deeper_model is not None and group.answered_by == "deeper":
            counts.setdefault(group.key, Counter())[group.deeper_model] += group.decisions
    return {key: count.most_common(1)[0][0] for key, count in counts.items()}


@dataclass
class _Money:
    """Money that groups of decisions spent and saved (USD); None where a price is unknown."""

    rates: RatesOn
    deeper_model: str | None
    without_price: set[str | None] = field(default_factory=set)  # models that were asked for

    def spent(self, group: Group) -> float | None:
        if group.partly_known == group.decisions and not (group.draft_output_tokens or group.deeper_output_tokens):
            return None  # the tokens were not counted
        draft = self._drafts(group)
        deeper = self._cost(
            group.deeper_model, group.day, read=group.deeper_input_tokens, written=group.deeper_output_tokens
        )
        return None if draft is None or deeper is None else draft + deeper

    def saved_measured(self, group: Group) -> float | None:
        if group.deeper_includes_draft:
            return 0.0
        cost = self._drafts(group)
        return None if cost is None else -cost

    def saved_estimated(self, group: Group) -> float | None:
        drafts = 0 if group.deeper_includes_draft else group.draft_tokens
        # Drafts that went deeper without counted tokens have negative savings: they avoided no tokens.
        avoided = self._cost(self.deeper_model, group.day, written=max(0.0, group.tokens_saved + drafts))
        cost = self._cost(group.draft_model, group.day, written=drafts)
        return None if avoided is None or cost is None else avoided - cost

    def _drafts(self, group: Group) -> float | None:
        return self._cost(
            group.draft_model, group.day, read=group.draft_input_tokens, written=group.draft_output_tokens
        )

    def _cost(self, model: str | None, day: date, *, read: float = 0, written: float = 0) -> float | None:
        if not read and not written:
            return 0.0
        rates = self.rates(model, day)
        if rates is None:
            self.without_price.add(model)
            return None
        return read * rates.input + written * rates.output


# Fields that a group and a summary share, and that are added up.
_TOTALS = (
    "decisions",
    "stale",
    "aborted",
    "alarmed",
    "draft_input_tokens",
    "draft_output_tokens",
    "deeper_input_tokens",
    "deeper_output_tokens",
    "partly_known",
    "feedback",
)


def _summary(
    place: Place, found: Sequence[Group], money: _Money, *, alarms: int, latency: float | None
) -> DaySummary:
    totals: dict[str, Any] = {name: sum(getattr(group, name) for group in found) for name in _TOTALS}
    routes, reasons = _decisions_by("route", found), _decisions_by("reason", found)
    saved_by = _decisions_by("saved_by", found)
    measured, estimated = ([group for group in found if group.saved_by == by] for by in ("measured", "estimated"))
    confident = [group for group in found if group.reason == "confident"]
    # Computed first, as ``money`` collects the models without a price.
    usd_spent = _sum(map(money.spent, found))
    usd_measured = _sum(map(money.saved_measured, measured)) if measured else None
    usd_estimated = _sum(map(money.saved_estimated, estimated)) if estimated else None
    return DaySummary(
        key=place.key,
        day=place.day,
        accepted=routes["final"],
        deeper=routes["deeper"],
        abstained=routes["abstain"],
        reasons=dict(reasons.most_common()),
        alarms=alarms,
        measured=saved_by["measured"],
        saved_measured=sum(group.tokens_saved for group in measured),
        estimated=saved_by["estimated"],
        saved_estimated=sum(group.tokens_saved for group in estimated),
        saved_unknown=saved_by[None],
        measured_up_to=_up_to(measured),
        estimated_up_to=_up_to(estimated),
        usd_spent=usd_spent,
        usd_saved_measured=usd_measured,
        usd_saved_estimated=usd_estimated,
        unpriced=tuple(sorted(model for model in money.without_price if model is not None)),
        unnamed=None in money.without_price,
        graded=sum(group.right + group.wrong for group in confident),
        wrong=sum(group.wrong for group in confident),
        promises=promises_of(confident),
        latency_seconds=latency,
        **totals,
    )


def _decisions_by(name: str, found: Iterable[Group]) -> Counter[Any]:
    """The number of decisions by the value of one field of their groups."""
    counts: Counter[Any] = Counter()
    for group in found:
        counts[getattr(group, name)] += group.decisions
    return counts


def _up_to(found: Iterable[Group]) -> int:
    """Decisions whose draft may have cost more than is known, and where that lowers the saving."""
    return sum(group.partly_known for group in found if not group.deeper_includes_draft)


def _sum(amounts: Iterable[float | None]) -> float | None:
    """The sum of amounts; None where one of them is None."""
    known = list(amounts)
    return None if None in known else sum((amount for amount in known if amount is not None), 0.0)
