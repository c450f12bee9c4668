"""Settings of a calibration: levels of the guarantees, prices, and the seed."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Price = Annotated[float, Field(ge=0, le=1e12)]
Level = Annotated[float, Field(gt=0, lt=1)]


class Prices(BaseModel):
    """Prices of tokens, errors and runs, all in one currency; the ``cost`` threshold minimises the expected cost.

    Example:
        >>> Prices(token=0.000_01, error=0.5)
        Prices(token=1e-05, error=0.5, deeper=0.0, abstain=None)
    """

    model_config = _FROZEN

    token: Price = Field(default=0.0, description="One token that the deeper branch writes.")
    error: Price = Field(description="One wrong answer.")
    deeper: Price = Field(default=0.0, description="One run of the deeper branch, on top of its tokens.")
    abstain: Price | None = Field(
        default=None, description="One question that is handed over; None: as much as a wrong answer."
    )


class CalibrationSettings(BaseModel):
    """Settings of a calibration, kept with the profile.

    The command line has an option for each field, with its name and description.
    """

    model_config = _FROZEN

    alpha: Level = Field(default=0.05, description="risk: share of accepted drafts that may be wrong (0 to 1).")
    delta: Level = Field(default=0.1, description="Probability with which a guarantee may fail (0 to 1).")
    epsilon: Level = Field(
        default=0.05, description="noninferior: accuracy that may be lost against always going deeper (0 to 1)."
    )
    eta: Level = Field(
        default=0.05, description="abstain: share of hopeless drafts that deeper may get right (0 to 1)."
    )
    prices: Prices | None = Field(default=None, description="cost: what things cost; None: no such threshold.")
    seed: NonNegativeInt = Field(default=0, description="Of everything random: folds, bootstrap, permutations.")
    resamples: NonNegativeInt = Field(default=500, description="Bootstrap resamples behind the intervals; 0: none.")
