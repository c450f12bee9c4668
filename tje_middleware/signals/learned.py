"""A learned signal: a logistic regression over several signals, with weights that are not negative."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from ..errors import SignalError
from ..logprobs import SequenceLogprobs
from ..logprobs.arrays import FloatArray
from . import measure

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
#: Standardised values are clipped to this, so that one signal's outlier does not outweigh all other signals.
FARTHEST = 4.0


class Feature(BaseModel):
    """One signal's part in a learned one."""

    model_config = _FROZEN

    signal: str
    center: FiniteFloat = Field(description="Mean over the records it was learned from, in the signal's unit.")
    scale: float = Field(gt=0, description="Standard deviation over them, same unit.")
    weight: float = Field(ge=0, description="Nats of log-odds per standard deviation.")


class LearnedSignal(BaseModel):
    """The log-odds (nats) that a draft is wrong, from several signals: lower = more confident.

    intercept + sum of weight * (value - center) / scale, each term's standardised value kept within 4. Weights are
    never negative, so a draft that is more confident by every signal is more confident by this one. Plain numbers: a
    profile that holds it is read anywhere without running code.
    """

    model_config = _FROZEN

    intercept: FiniteFloat
    features: tuple[Feature, ...] = Field(min_length=1)

    def __call__(self, sequence: SequenceLogprobs) -> float:
        """The log-odds that this draft is wrong (nats).

        Raises:
            SignalError: one of the signals is unknown here or cannot be computed from this sequence.
        """
        return self.of_values({part.signal: measure(part.signal, sequence) for part in self.features})

    def of_values(self, values: Mapping[str, float]) -> float:
        """The log-odds from the signals' values, by their names.

        Raises:
            SignalError: one of the signals is missing or not finite.
        """
        total = self.intercept
        for part in self.features:
            value = values.get(part.signal)
            if value is None or not isfinite(value):
                raise SignalError(f"the learned signal needs {part.signal!r}, which is {value}")
            total += part.weight * min(max((value - part.center) / part.scale, -FARTHEST), FARTHEST)
        return total

    def of_columns(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """(n,) log-odds of n drafts at once, from (n,) columns of the signals' values."""
        # Added in the order of of_values: another order could change the last digit, and with it the comparison with
        # a threshold that was computed here.
        total = np.full(len(columns[self.features[0].signal]), self.intercept)
        for part in self.features:
            standard = (columns[part.signal] - part.center) / part.scale
            total = total + part.weight * np.minimum(np.maximum(standard, -FARTHEST), FARTHEST)
        return total
