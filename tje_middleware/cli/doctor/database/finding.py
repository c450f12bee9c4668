"""What the doctor says of one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ....storage import Database

#: ``ok``: as it should be. ``warn``: it works, and something should be done. ``fail``: something does not work.
Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Nothing in it shows a secret.

    Attributes:
        name: What was looked at, in a word or two.
        status: How it is.
        found: What was found, with numbers.
        remedy: What to do; empty where there is nothing to do.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


#: What looks at one thing or several.
Check = Callable[[Database], Iterable[Finding]]
