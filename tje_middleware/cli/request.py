"""What every command on a file of records is asked for, declared once."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..calibration.settings import CalibrationSettings, Prices
from .console import with_options

if TYPE_CHECKING:
    from ..calibration.key import ProfileKey

_UNNAMED = "unnamed"
_TOP_K = 20
# Each of these is an option of the same name. Prices have one for each thing that costs, declared below.
_SETTINGS = {name: setting for name, setting in CalibrationSettings.model_fields.items() if name != "prices"}


@dataclass(frozen=True)
class Request:
    """The options that say what is calibrated, and at which prices; calibration's own settings come on top."""

    model: Annotated[str, typer.Option(help="The model that wrote the drafts, as it is asked for.")] = _UNNAMED
    task: Annotated[str, typer.Option(help="What the task is called.")] = _UNNAMED
    signal: Annotated[str, typer.Option(help='A signal, or "auto" for the one that separates best.')] = "auto"
    top_k: Annotated[int, typer.Option(min=1, help="Alternatives a position that signals are taken over.")] = _TOP_K
    temperature: Annotated[float | None, typer.Option(min=0, help="Sampling temperature of the drafts.")] = None
    error_price: Annotated[float | None, typer.Option(min=0, help="cost: price of a wrong answer.")] = None
    token_price: Annotated[float, typer.Option(min=0, help="cost: price of a token of the deeper branch.")] = 0.0
    deeper_price: Annotated[float, typer.Option(min=0, help="cost: price of a deeper run, on top of its tokens.")] = (
        0.0
    )
    abstain_price: Annotated[float | None, typer.Option(min=0, help="cost: price of handing a question over.")] = None
    prompt_fingerprint: Annotated[str | None, typer.Option(help="Any digest that changes when the prompt does.")] = (
        None
    )

    @property
    def is_named(self) -> bool:
        """Whether both model and task are named, as a profile that is stored must be."""
        return _UNNAMED not in (self.model, self.task)

    @property
    def key(self) -> ProfileKey:
        """What the profile will be valid for."""
        from ..calibration.key import ProfileKey  # noqa: PLC0415 (--help must not wait for pydantic)

        return ProfileKey(**{name: getattr(self, name) for name in ProfileKey.model_fields})

    @property
    def opening(self) -> str:
        """How a gate opens the profile that is stored under the key, in Python."""
        unsaid = {"top_k": _TOP_K, "temperature": None, "prompt_fingerprint": None}
        names = {name: value for name, value in self.key if name not in unsaid or value != unsaid[name]}
        return f"EntropyGate.from_registry(registry, {', '.join(f'{name}={of!r}' for name, of in names.items())})"

    @property
    def settings(self) -> CalibrationSettings:
        """Levels and prices.

        Raises:
            typer.BadParameter: other prices without that of an error.
        """
        prices = None
        if self.error_price is not None:
            priced = {"token": self.token_price, "deeper": self.deeper_price, "abstain": self.abstain_price}
            prices = Prices(error=self.error_price, **priced)
        elif self.token_price or self.deeper_price or self.abstain_price is not None:
            raise typer.BadParameter("prices need that of an error too: --error-price")
        return CalibrationSettings(prices=prices, **{name: getattr(self, name) for name in _SETTINGS})


def known_method(given: str | None) -> str | None:
    """Make sure that a threshold method is one that there is; for the callback of an option.

    Raises:
        typer.BadParameter: it is none.
    """
    from ..calibration.thresholds.methods import METHODS  # noqa: PLC0415 (--help must not wait for it)

    if given is not None and given not in METHODS:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(METHODS)}")
    return given


def _option(name: str) -> tuple[str, Any, Any]:
    """A setting of calibration as a field of options."""
    setting = _SETTINGS[name]
    least = next((bound.ge for bound in setting.metadata if hasattr(bound, "ge")), None)
    kind = Annotated[setting.annotation, typer.Option(min=least, help=setting.description)]  # type: ignore[name-defined]
    return name, kind, field(default=setting.default)


_REQUEST = make_dataclass("RequestWithSettings", [_option(name) for name in _SETTINGS], bases=(Request,), frozen=True)

#: Give a command the options of :class:`Request` and those of the settings; it gets them as ``request``.
with_request = with_options(_REQUEST, "request")
