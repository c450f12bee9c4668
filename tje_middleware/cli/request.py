"""What every command on a file of records is asked for, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from .console import with_options

if TYPE_CHECKING:
    from ..calibration.key import ProfileKey
    from ..calibration.settings import CalibrationSettings

_UNNAMED = "unnamed"
_TOP_K = 20


@dataclass(frozen=True)
class Request:
    """The options that say what is calibrated, and how."""

    model: Annotated[str, typer.Option(help="The model that wrote the drafts, as it is asked for.")] = _UNNAMED
    task: Annotated[str, typer.Option(help="What the task is called.")] = _UNNAMED
    signal: Annotated[str, typer.Option(help='A signal, or "auto" for the one that separates best.')] = "auto"
    top_k: Annotated[int, typer.Option(min=1, help="Alternatives a position that signals are taken over.")] = _TOP_K
    temperature: Annotated[float | None, typer.Option(min=0, help="Sampling temperature of the drafts.")] = None
    alpha: Annotated[float, typer.Option(help="risk: share of accepted drafts that may be wrong (0 to 1).")] = 0.05
    delta: Annotated[float, typer.Option(help="Probability with which a guarantee may fail (0 to 1).")] = 0.1
    epsilon: Annotated[
        float,
        typer.Option(help="noninferior: accuracy that may be lost against always going deeper (0 to 1)."),
    ] = 0.05
    eta: Annotated[
        float, typer.Option(help="abstain: share of hopeless drafts that deeper may get right (0 to 1).")
    ] = 0.05
    error_price: Annotated[float | None, typer.Option(min=0, help="cost: price of a wrong answer.")] = None
    token_price: Annotated[float, typer.Option(min=0, help="cost: price of a token of the deeper branch.")] = 0.0
    deeper_price: Annotated[float, typer.Option(min=0, help="cost: price of a deeper run, on top of its tokens.")] = (
        0.0
    )
    abstain_price: Annotated[float | None, typer.Option(min=0, help="cost: price of handing a question over.")] = None
    prompt_fingerprint: Annotated[str | None, typer.Option(help="Any digest that changes when the prompt does.")] = (
        None
    )
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0

    @property
    def is_named(self) -> bool:
        """Whether both model and task are named, as a profile that is stored must be."""
        return _UNNAMED not in (self.model, self.task)

    @property
    def key(self) -> ProfileKey:
        """What the profile will be valid for."""
        from ..calibration.key import ProfileKey  # noqa: PLC0415 (--help must not wait for pydantic)

        return ProfileKey(
            model=self.model,
            task=self.task,
            signal=self.signal,
            top_k=self.top_k,
            temperature=self.temperature,
            prompt_fingerprint=self.prompt_fingerprint,
        )

    @property
    def opening(self) -> str:
        """How a gate opens the profile that is stored under the key, in Python."""
        names: dict[str, object] = {"model": self.model, "task": self.task, "signal": self.signal}
        if self.top_k != _TOP_K:
            names["top_k"] = self.top_k
        if self.temperature is not None:
            names["temperature"] = self.temperature
        if self.prompt_fingerprint is not None:
            names["prompt_fingerprint"] = self.prompt_fingerprint
        return f"EntropyGate.from_registry(registry, {', '.join(f'{name}={of!r}' for name, of in names.items())})"

    @property
    def settings(self) -> CalibrationSettings:
        """Levels and prices.

        Raises:
            typer.BadParameter: other prices without that of an error.
        """
        from ..calibration.settings import CalibrationSettings, Prices  # noqa: PLC0415

        prices = None
        if self.error_price is not None:
            prices = Prices(
                error=self.error_price,
                token=self.token_price,
                deeper=self.deeper_price,
                abstain=self.abstain_price,
            )
        elif self.token_price or self.deeper_price or self.abstain_price is not None:
            raise typer.BadParameter("prices need that of an error too: --error-price")
        return CalibrationSettings(
            alpha=self.alpha, delta=self.delta, epsilon=self.epsilon, eta=self.eta, prices=prices, seed=self.seed
        )


def known_method(given: str | None) -> str | None:
    """Make sure that a threshold method is one that there is; for the callback of an option.

    Raises:
        typer.BadParameter: it is none.
    """
    from ..calibration.thresholds.methods import METHODS  # noqa: PLC0415 (--help must not wait for it)

    if given is not None and given not in METHODS:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(METHODS)}")
    return given


#: Give a command the options of :class:`Request` and hand them to it as ``request``.
with_request = with_options(Request, "request")
