"""Watching the signal of live drafts, one by one, for a distribution other than the records'."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log
from threading import Lock

from ..alarms import Alarm
from ..reference import ReferenceDistribution, rounded
from .betting import Bets
from .bins import Bins
from .evidence import e_value
from .policy import DriftPolicy
from .windows import Window


@dataclass(frozen=True)
class DriftState:
    """Where a monitor stands.

    Attributes:
        observations: Drafts seen.
        e_value: Evidence for a change, the highest there ever was: at least x with probability 1/x at most, if
            there is none.
        psi: Population stability index of the newest drafts, less what chance alone gives.
        ks: Kolmogorov's and Smirnov's distance of the newest drafts (0 to 1).
        ks_p: Its p-value, rather too large than too small, for this one window alone: looked at again and again it
            is small by chance.
        accepted: Share of the newest drafts within the threshold; None where no threshold is known.
        accepted_of_records: The same of the records.
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
    """Raises one alarm when live drafts are surely and materially distributed otherwise than the records.

    Sure: the wealth of a bet against "nothing has changed" has reached 1 / alpha, which it ever does with
    probability at most alpha while nothing has (``betting``). Material: the newest drafts' population stability
    index is at least ``least_psi``; asking for both can only make false alarms rarer. That holds for records and
    drafts that are independent of each other, without knowing their distribution. A handful of records shows only a
    change that is large.

    With ``censored_above`` the last bin begins below the threshold. The argument has it that the threshold does not
    depend on the records, and one that was computed from them does; in simulations that makes no difference.

    For any number of threads; an observation takes some microseconds and the memory does not grow.

    Example:
        >>> import numpy as np
        >>> from tje_middleware.reference import reference_of
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
        """Begin to watch.

        Args:
            reference: The profile's.
            policy: When to call it drift.
            threshold: Up to which drafts are accepted; only to say what share is.
            censored_above: The threshold, where drafts are stopped as soon as they are sure to be above it: of those,
                the value observed may be any above it.
        """
        self.policy = policy or DriftPolicy()
        self._reference = reference
        self._threshold = censored_above if threshold is None else threshold
        self._bins = Bins(reference, censored_above=censored_above)
        self._bets = Bets(self._bins.gaps)
        self._window = Window(self._bins, self.policy.window, censored_above=censored_above)
        self._enough = -log(self.policy.alpha)
        self._alarmed = False
        self._lock = Lock()

    def observe(self, value: float) -> Alarm | None:
        """Take the signal of one more draft; the alarm, the one time that it is raised.

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
            return self._alarm(self._state())

    def state(self) -> DriftState:
        """Where it stands."""
        with self._lock:
            return self._state()

    def _state(self) -> DriftState:
        distance, p_value = self._window.ks()
        known = self._threshold is not None and len(self._window) > 0
        return DriftState(
            observations=self._bets.observations,
            e_value=e_value(self._bets.highest),
            psi=self._window.psi(),
            ks=distance,
            ks_p=p_value,
            accepted=self._window.share_up_to(self._threshold) if known and self._threshold is not None else None,
            accepted_of_records=None if self._threshold is None else self._reference.share_up_to(self._threshold),
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
        named = {
            "observations": float(state.observations),
            "e_value": state.e_value,
            "psi": state.psi,
            "ks": state.ks,
            "ks_p": state.ks_p,
            "accepted": state.accepted,
            "accepted_of_records": state.accepted_of_records,
        }
        return Alarm("drift", detail, evidence={name: value for name, value in named.items() if value is not None})
