"""Numbers and sentences of the report as text."""

from __future__ import annotations

import inspect
import re
from functools import partial

from ...errors import SignalError
from ...signals import LEARNED, SIGNALS, resolve_signal
from .. import Estimate

NONE = "\N{EN DASH}"


def number(value: float | None) -> str:
    """A number to four significant digits."""
    return NONE if value is None else _minus(f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}")


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return NONE if value is None else _minus(f"{value:.1%}")


def percent_of(estimate: Estimate | None) -> str:
    """A share as a percentage, with its interval."""
    if estimate is None:
        return NONE
    return _minus(f"{estimate.value:.1%} [{estimate.low * 100:.1f},\N{NO-BREAK SPACE}{estimate.high * 100:.1f}]")


def points(estimate: Estimate | None) -> str:
    """A difference of shares in percentage points, with its interval."""
    if estimate is None:
        return NONE
    return _minus(
        f"{estimate.value * 100:+.1f} [{estimate.low * 100:+.1f},\N{NO-BREAK SPACE}{estimate.high * 100:+.1f}]"
    )


def span(interval: tuple[float, float] | None) -> str:
    """An interval."""
    return NONE if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def p_value(value: float | None) -> str:
    """A p-value; below 0.001 as a bound."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def counted(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def area(value: float | None) -> str:
    """An area under a curve."""
    return NONE if value is None else f"{value:.3f}"


def area_of(value: float | None, interval: tuple[float, float] | None) -> str:
    """An area under a curve, with its interval."""
    if interval is None:
        return area(value)
    return f"{area(value)} [{interval[0]:.3f},\N{NO-BREAK SPACE}{interval[1]:.3f}]"


def sentence(text: str, name: str | None = None) -> str:
    """The text with a full stop, and with a capital letter unless it begins with a name.

    Args:
        text: A reason or guarantee, as a profile holds it.
        name: Name of the method or signal that it may begin with.
    """
    if name is not None and text.startswith(f"{name} "):
        text = f"`{name}`{text[len(name) :]}"
    else:
        text = text[:1].upper() + text[1:]
    return text.rstrip(".") + "." if text else ""


def unit_of(signal: str) -> str:
    """The unit of a signal; empty where it has none, or none was given."""
    if signal == LEARNED:
        return "nats of log-odds"
    known = SIGNALS.get(signal.partition("@")[0])
    return known.unit if known is not None else ""


def meaning_of(signal: str) -> str:
    """The first sentence of a signal's docstring; empty for a signal that is unknown here."""
    if signal == LEARNED:
        return "The log-odds that a draft is wrong, from several signals weighed together (nats)."
    try:
        function = resolve_signal(signal.partition("@")[0])
    except SignalError:
        return ""
    if isinstance(function, partial):
        return ""
    documented = (inspect.getdoc(function) or "").partition("\n\n")[0]
    text = re.sub(r":func:`(\w+)`|[`*]+", lambda match: match[1] or "", " ".join(documented.split()))
    _, _, part = signal.partition("@")
    return f"{text} Over the {part} tokens alone." if text and part else text


def negated(estimate: Estimate) -> Estimate:
    """The share of tokens spent in addition, from the share saved."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def two_lines(cell: str) -> tuple[str, str]:
    """A cell's figure, and its interval in brackets to show below it, which makes tables narrower."""
    figure, bracket, rest = cell.partition(" [" if " [" in cell else " (")
    return figure, f"{bracket.strip()}{rest}"


def marked(text: str) -> list[str]:
    """Text split at its backticks: every second part stood between two of them, and is a name."""
    return re.split(r"`([^`]+)`", text.replace("95 %", "95\N{NO-BREAK SPACE}%"))


def _minus(text: str) -> str:
    """The text with real minus signs, which are as wide as a plus."""
    return text.replace("-", "\N{MINUS SIGN}")
