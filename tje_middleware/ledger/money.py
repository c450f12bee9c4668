"""What tokens cost, by the price list of genai-prices; what it does not know stays unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo

# Small enough for the lowest tier of every list that has tiers.
_TOKENS = 1_000
# What may stand before a model's name, and after it: a date or number of its edition, as each provider writes them.
_NAMED = (
    r"(?:(?:publishers/[\w-]+/)?models/|(?:[a-z]+\.)+)?{}"
    r"(?:(?:-preview-|-exp-|-v\d+@|[-@])?\d[\d-]*|-latest)?(?:-v\d+(?::\d+)?)?"
)


@dataclass(frozen=True)
class Rates:
    """A model's list prices, in the lowest tier, without caching.

    Attributes:
        input: Of a token read (USD).
        output: Of a token written (USD).
    """

    input: float
    output: float


#: A model's prices on a day; None where they are unknown.
RatesOn = Callable[[str | None, date], Rates | None]


def has_price_list() -> bool:
    """Whether the extra ``prices`` is installed."""
    try:
        import genai_prices  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


@lru_cache(maxsize=4_096)
def rates_on(model: str | None, day: date) -> Rates | None:
    """The list prices of a day, from the copy that genai-prices comes with: nothing is fetched.

    Args:
        model: As it was asked for; a provider may stand in front of it (``openai:gpt-4o``).
        day: In UTC.
    """
    if model is None or not has_price_list():
        return None
    for provider, name in ((None, model), _with_provider(model)):
        found = _listed(provider, name, datetime.combine(day, time(12), timezone.utc)) if name else None
        if found is not None:
            return found
    return None


def _with_provider(model: str) -> tuple[str | None, str | None]:
    parts = re.fullmatch(r"([\w-]+)[:/](.+)", model)
    return (parts[1], parts[2]) if parts else (None, None)


def _listed(provider: str | None, model: str, at: datetime) -> Rates | None:
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    usage = Usage(input_tokens=_TOKENS, output_tokens=_TOKENS)
    try:
        price = calc_price(usage, model, provider_id=provider, genai_request_timestamp=at)
    except LookupError:  # not in the list
        return None
    if not _is_named(price.model, model):
        return None
    listed = price.model_price
    if listed.input_mtok is None or listed.output_mtok is None:  # an embedding model, or an incomplete list
        return None
    return Rates(float(price.input_price) / _TOKENS, float(price.output_price) / _TOKENS)


def _is_named(found: ModelInfo, model: str) -> bool:
    """Whether it is that model, or an edition of it: the list finds by the beginning alone what runs here, too."""
    names = (found.id, *_names_in(found.match))
    asked = re.sub(r"^(ft:[^:]+):.*", r"\1", model)  # whose it is, of one that OpenAI tuned
    return any(re.fullmatch(_NAMED.format(re.escape(name)), asked, re.IGNORECASE) for name in names)


def _names_in(match: MatchLogic) -> Iterator[str]:
    """What a model's names are compared with, in the list."""
    for part in vars(match).values():
        if isinstance(part, str):
            yield part
        else:
            for each in part:
                yield from _names_in(each)
