"""DriftMonitor: compares the signal of live drafts, one by one, with its distribution over the records."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from math import exp, floor, isfinite, lgamma, log
from threading import RLock

import numpy as np

from ...calibration.profile import Alarm
from ...calibration.reference import ReferenceDistribution, rounded
from .betting import Bets, Bins

# The exponential of a larger number would overflow.
_MOST_CERTAIN = 700.0
# Added to the count of each bin, so that an empty bin does not make the index infinite.
_SMOOTHING = 0.5


def e_value(log_evidence: float) -> float:
    """The e-value with this natural logarithm; at most e^700."""
    return exp(min(log_evidence, _MOST_CERTAIN))


@dataclass(frozen=True)
class DriftState:
    """The state of a monitor.

    Attributes:
        observations: Drafts observed.
        e_value: The largest evidence for a change so far; without a change it reaches x with probability at most 1/x.
        psi: Population stability index of the newest drafts, less its expectation without a change.
        ks: Kolmogorov's and Smirnov's distance of the newest drafts (0 to 1).
        ks_p: Its p-value, never too small, for this one window: over many windows some are small by chance.
        accepted: Share of the newest drafts that the threshold accepts; None without a threshold.
        accepted_of_records: Share of the records that the threshold accepts.
        alarmed: Whether the alarm was raised.
    """

    observations: int
    e_value: float
    psi: float
    ks: float
    ks_p: float
    accepted: float | None
    accepted_of_records: float | None
    alarmed: bool


class DriftMonitor:
    """Raises one alarm when the distribution of live drafts differs surely and materially from that of the records.

    Sure means that the wealth of a bet against "nothing has changed" has reached 1 / alpha; while nothing has changed
    it ever does so with probability at most alpha (``betting``). Material means that the population stability index
    of the newest drafts is at least ``least_psi``, which can only make false alarms rarer. This holds for any
    distribution, as long as records and drafts are independent of each other. From a handful of records only a large
    change can be shown.

    With ``censored_above`` the last bin begins below the threshold. The proof assumes that the threshold does not
    depend on the records; in simulations a threshold that was computed from them makes no difference.

    Threads may share a monitor; an observation takes some microseconds, and the memory does not grow.

    Example:
        >>> import numpy as np
        >>> from tje_middleware.calibration.reference import reference_of
        >>> monitor = DriftMonitor(reference_of(np.linspace(0.1, 1.0, 200)), DriftPolicy(alpha=0.01))
        >>> alarms = [monitor.observe(value) for value in np.linspace(0.9, 1.3, 100)]
        >>> [alarm.kind for alarm in alarms if alarm]
        ['drift']
    """

    def __init__(
        self,
        reference: ReferenceDistribution,
        policy: DriftPolicy | None = None,
        *,
        threshold: float | None = None,
        censored_above: float | None = None,
    ) -> None:
        """Make a monitor without observations.

        Args:
            reference: The profile's reference.
            policy: When to raise the alarm.
            threshold: The value up to which drafts are accepted; used only for the shares accepted.
            censored_above: The threshold, where drafts are stopped once they are sure to be above it: the value
                observed for them may then be any value above it.
        """
        self.policy = policy or DriftPolicy()
        self._reference = reference
        self._threshold = censored_above if threshold is None else threshold
        self._bins = Bins(reference, censored_above=censored_above)
        self._bets = Bets(self._bins.gaps)
        self._window = Window(self._bins, self.policy.window, censored_above=censored_above)
        self._enough = -log(self.policy.alpha)
        self._alarmed = False
        self._lock = RLock()

    def observe(self, value: float) -> Alarm | None:
        """Observe the signal of one more draft; returns the alarm the one time that it is raised, else None.

        Raises:
            ValueError: the value is not a finite number.
        """
        if not isfinite(value):
            raise ValueError(f"a draft's signal is a finite number, not {value}")
        kept = rounded(value)
        with self._lock:
            place = self._bins.place(kept)
            self._bets.see(place)
            self._window.see(kept, place)
            if self._alarmed or self._bets.highest < self._enough:
                return None
            if self._bets.observations < self.policy.least_drafts or self._window.psi() < self.policy.least_psi:
                return None
            self._alarmed = True
            return self._alarm(self.state())

    def state(self) -> DriftState:
        """The monitor's state now."""
        threshold = self._threshold
        with self._lock:
            distance, p_value = self._window.ks()
            return DriftState(
                observations=self._bets.observations,
                e_value=e_value(self._bets.highest),
                psi=self._window.psi(),
                ks=distance,
                ks_p=p_value,
                accepted=self._window.share_up_to(threshold) if threshold is not None and len(self._window) else None,
                accepted_of_records=None if threshold is None else self._reference.share_up_to(threshold),
                alarmed=self._alarmed,
            )

    def _alarm(self, state: DriftState) -> Alarm:
        accepted = ""
        if state.accepted is not None and state.accepted_of_records is not None:
            accepted = (
                f"; {state.accepted:.0%} of them are within the threshold, of the records "
                f"{state.accepted_of_records:.0%}"
            )
        detail = (
            f"the signal of the newest {len(self._window)} of {state.observations} drafts is not distributed as "
            f"that of the {self._reference.n} records: PSI {state.psi:.2f}, KS distance {state.ks:.2f}, e-value "
            f"{state.e_value:.3g}{accepted}"
        )
        numbers = {name: value for name, value in asdict(state).items() if name != "alarmed" and value is not None}
        return Alarm("drift", detail, evidence={name: float(value) for name, value in numbers.items()})


@dataclass(frozen=True)
class DriftPolicy:
    """How sure and how large a change must be before an alarm is raised.

    Attributes:
        alpha: Probability that one gate of one process ever raises a false alarm about one profile's signal, however
            long it runs. An alarm holds for all gates of a profile, so the probabilities of several gates and
            processes add up: for m of them choose alpha / m. Copies of a gate count as one.
        window: Number of newest drafts over which the size of a change is measured.
        least_psi: Population stability index below which a change, however certain, is too small to matter; 0.1
            and 0.25 are the customary marks of a moderate and of a large change.
        least_drafts: No alarm is raised before this many drafts: an alarm reaches every process, and the first few
            drafts of one may be of a single question, asked again. Each gate counts its own drafts: a gate that is
            made anew for every request never raises an alarm.
        max_risk: Share of the accepted drafts that may be wrong; None: the share that the profile promises for the
            method ``risk``, and no share for other methods. A ledger that shares the registry's database compares
            feedback with it; that raises a false alarm about a version with probability at most 1 %.

    Raises:
        ValueError: a value out of its range.
    """

    alpha: float = 0.01
    window: int = 200
    least_psi: float = 0.1
    least_drafts: int = 30
    max_risk: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is a probability between 0 and 1, not {self.alpha}")
        for name, number, least in (("window", self.window, 2), ("least_drafts", self.least_drafts, 1)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(f"{name} is a number of drafts, at least {least}, not {number!r}")
        if not 0 <= self.least_psi < float("inf"):
            raise ValueError(f"least_psi is a number from 0 on, not {self.least_psi}")
        if self.max_risk is not None and not 0 < self.max_risk < 1:
            raise ValueError(f"max_risk is a share between 0 and 1, or None, not {self.max_risk}")


class Window:
    """The newest values with their bins."""

    def __init__(self, bins: Bins, size: int, *, censored_above: float | None = None) -> None:
        self._bins = bins
        self._newest: deque[tuple[float, int]] = deque(maxlen=size)
        self._counts = [0] * len(bins)
        self._ceiling = None if censored_above is None else rounded(censored_above)

    def __len__(self) -> int:
        return len(self._newest)

    def see(self, kept: float, place: int) -> None:
        """Add the next value, rounded like those of the reference, and its bin."""
        if len(self._newest) == self._newest.maxlen:
            self._counts[self._newest[0][1]] -= 1
        self._newest.append((kept, place))
        self._counts[place] += 1

    def share_up_to(self, threshold: float) -> float:
        """The share of the values that a threshold accepts; NaN of no values."""
        limit = rounded(threshold)
        return float(np.mean([kept <= limit for kept, _ in self._newest])) if self._newest else float("nan")

    def psi(self) -> float:
        """Population stability index over the bins: sum of (p - q) ln(p / q), less its expectation without a change.

        For B bins, n records and m values of one distribution that expectation is about (B - 1) (1/n + 1/m).
        """
        m, n = len(self), self._bins.reference.n
        if not m:
            return 0.0
        extra = _SMOOTHING * len(self._bins)
        total = 0.0
        for count, gaps in zip(self._counts, self._bins.gaps, strict=True):
            live, expected = (count + _SMOOTHING) / (m + extra), gaps / (n + 1)
            total += (live - expected) * log(live / expected)
        return max(0.0, total - (len(self._bins) - 1) * (1 / n + 1 / m))

    def ks(self) -> tuple[float, float]:
        """Kolmogorov's and Smirnov's distance (0 to 1) to the reference, and its p-value for this window alone.

        The distance is taken at the values that the reference keeps, which are all distinct values where there are at
        most 512; with censored drafts it is not taken above the threshold.
        """
        if not self._newest:
            return 0.0, 1.0
        reference: ReferenceDistribution = self._bins.reference
        live = np.sort([kept for kept, _ in self._newest])
        values = np.array([rounded(value) for value in reference.values])
        ranks = np.array(reference.ranks)
        above = np.abs(ranks / reference.n - np.searchsorted(live, values, side="right") / len(live))
        below = np.abs(
            (ranks - reference.tied) / reference.n - np.searchsorted(live, values, side="left") / len(live)
        )
        if self._ceiling is not None:
            # Only up to the threshold: values above it are only known to be above it.
            there = abs(reference.share_up_to(self._ceiling) - self.share_up_to(self._ceiling))
            above, below = np.append(above[values <= self._ceiling], there), below[values <= self._ceiling]
        distance = float(np.concatenate([above, below, [0.0]]).max())
        size = reference.n * len(live) / (reference.n + len(live))
        return distance, _p_value(distance, max(1, round(size)))


def _p_value(distance: float, n: int) -> float:
    """P(D >= distance) for Kolmogorov's two-sided D of n values, by twice the one-sided probability.

    P(D+ >= d) = d sum_j C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j), j = 0 ... floor(n (1-d)) (Birnbaum & Tingey,
    1951). Twice that is never too small, exact from d = 1/2 on, and nearly exact where it is small (Miller, 1956).
    scipy has the function as well, but is slow to import while a draft's answer waits.
    """
    if distance <= 0:
        return 1.0
    if distance >= 1:
        return 0.0
    j = np.arange(floor(n * (1 - distance)) + 1)
    choices = lgamma(n + 1) - np.array([lgamma(k + 1) + lgamma(n - k + 1) for k in j.tolist()])
    rest = np.maximum(1 - distance - j / n, np.finfo(np.float64).tiny)
    terms = choices + (j - 1) * np.log(distance + j / n) + (n - j) * np.log(rest)
    return min(1.0, 2 * distance * float(np.exp(terms).sum()))
