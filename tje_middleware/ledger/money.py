"""Prices of tokens, from the price list of genai-prices; a price that it lacks is unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo

# Prices are computed for this many tokens, which are in the lowest tier of every list with tiers.
_TOKENS = 1_000
# A model's name with a provider's prefix, and a suffix with the date or number of its edition.
_NAMED = (
    r"(?:(?:publishers/[\w-]+/)?models/|(?:[a-z]+\.)+)?{}"
    r"(?:(?:-preview-|-exp-|-v\d+@|[-@])?\d[\d-]*|-latest)?(?:-v\d+(?::\d+)?)?"
)


@dataclass(frozen=True)
class Rates:
    """A model's list prices, in the lowest tier, without caching.

    Attributes:
        input: Price of a token read (USD).
        output: Price of a token written (USD).
    """

    input: float
    output: float


#: Returns a model's prices on a day; None where they are unknown.
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
    """A model's list prices on a day, from the copy inside genai-prices: nothing is fetched.

    Args:
        model: The model's name as it was asked for, also with a provider in front (``openai:gpt-4o``).
        day: The day in UTC.
    """
    if model is None or not has_price_list():
        return None
    parts = re.fullmatch(r"([\w-]+)[:/](.+)", model)
    for provider, name in [(None, model), *([(parts[1], parts[2])] if parts else [])]:
        found = _listed(provider, name, datetime.combine(day, time(12), timezone.utc))
        if found is not None:
            return found
    return None


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
    """Whether the model found is the one asked for, or an edition of it.

    The list compares beginnings of names only, and so finds prices for models that run locally.
    """
    names = (found.id, *_names_in(found.match))
    asked = re.sub(r"^(ft:[^:]+):.*", r"\1", model)  # the name of a model tuned at OpenAI without its owner
    return any(re.fullmatch(_NAMED.format(re.escape(name)), asked, re.IGNORECASE) for name in names)


def _names_in(match: MatchLogic) -> Iterator[str]:
    """The texts in the list that a model's name is compared with."""
    for part in vars(match).values():
        if isinstance(part, str):
            yield part
        else:
            for each in part:
                yield from _names_in(each)
