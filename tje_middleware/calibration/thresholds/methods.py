"""Every threshold method by its name, over one sample of drafts with their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...errors import NoThreshold
from ...logprobs.arrays import BoolArray, FloatArray
from ..settings import CalibrationSettings
from .cost import cheapest, cost_threshold, costs_of
from .guaranteed import abstain_threshold, noninferiority_threshold, risk_threshold
from .paper import METHODS, ThresholdMethod


@dataclass(frozen=True)
class Drafts:
    """A signal of n drafts, and what became of them.

    Attributes:
        signal: (n,) lower = more confident.
        correct: (n,) whether the draft was right.
        deeper_correct: (n,) whether the deeper branch was; None where unknown.
        deeper_tokens: (n,) what it wrote (tokens); None where unknown.
        looks: As from how many signals this one was chosen on the same records: guarantees share their level.
    """

    signal: FloatArray
    correct: BoolArray
    deeper_correct: BoolArray | None = None
    deeper_tokens: FloatArray | None = None
    looks: float = 1

    @property
    def classes(self) -> tuple[FloatArray, FloatArray]:
        """The signal over correct and over incorrect drafts."""
        return self.signal[self.correct], self.signal[~self.correct]


@dataclass(frozen=True)
class Found:
    """A threshold, with what is known about it.

    Attributes:
        value: In the signal's unit.
        guarantee: What holds for it, in words; None where nothing is promised.
        abstain_from: Where its rule gives up; None: nowhere.
    """

    value: float
    guarantee: str | None = None
    abstain_from: float | None = None


Method = Callable[[Drafts, CalibrationSettings], Found]


def _of_classes(method: ThresholdMethod) -> Method:
    return lambda drafts, _: Found(method(*drafts.classes))


def _risk(drafts: Drafts, settings: CalibrationSettings) -> Found:
    found = risk_threshold(
        drafts.signal, ~drafts.correct, alpha=settings.alpha, delta=settings.delta, looks=drafts.looks
    )
    return Found(found.value, found.statement)


def _noninferior(drafts: Drafts, settings: CalibrationSettings) -> Found:
    if drafts.deeper_correct is None:
        raise NoThreshold("noninferior needs deeper_correct in every record: what the deeper branch made of it")
    found = noninferiority_threshold(
        drafts.signal,
        drafts.correct,
        drafts.deeper_correct,
        epsilon=settings.epsilon,
        delta=settings.delta,
        looks=drafts.looks,
    )
    return Found(found.value, found.statement)


def _cost(drafts: Drafts, settings: CalibrationSettings) -> Found:
    if settings.prices is None:
        raise NoThreshold("cost needs to know what things cost: Prices(error=...), on the command line --error-price")
    rule = cost_threshold(
        drafts.signal,
        drafts.correct,
        prices=settings.prices,
        delta=settings.delta,
        deeper_correct=drafts.deeper_correct,
        deeper_tokens=drafts.deeper_tokens,
        looks=drafts.looks,
        seed=settings.seed,
    )
    return Found(rule.value, rule.statement, rule.abstain_from)


def _cheapest(drafts: Drafts, settings: CalibrationSettings) -> Found:
    if settings.prices is None:
        raise NoThreshold("cost needs prices")
    costs = costs_of(drafts.correct, settings.prices, drafts.deeper_correct, drafts.deeper_tokens)
    return Found(cheapest(drafts.signal, costs, may_abstain=drafts.deeper_correct is not None)[0])


def hopeless(drafts: Drafts, settings: CalibrationSettings) -> Found:
    """From which value on drafts are hopeless.

    Raises:
        NoThreshold: unknown, or not to be shown.
    """
    if drafts.deeper_correct is None:
        raise NoThreshold("giving up needs deeper_correct in every record: what the deeper branch made of it")
    found = abstain_threshold(
        drafts.signal, drafts.deeper_correct, eta=settings.eta, delta=settings.delta, looks=drafts.looks
    )
    return Found(found.value, found.statement)


#: Every method: the paper's four, and ours.
EVERY_METHOD: Mapping[str, Method] = MappingProxyType(
    {
        **{name: _of_classes(method) for name, method in METHODS.items()},
        "risk": _risk,
        "noninferior": _noninferior,
        "cost": _cost,
    }
)
#: What a bootstrap repeats of each: for ``cost`` the rule, without the cross-validation that tests it.
RESAMPLED: Mapping[str, Method] = MappingProxyType({**EVERY_METHOD, "cost": _cheapest})
