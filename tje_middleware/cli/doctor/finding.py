"""What a doctor says of one thing that it looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

#: ``ok``: as it should be. ``warn``: it works, with something to know or to do about it. ``missing``: it is not
#: given. ``fail``: it does not work, is given in a form that is of no use, or could not be looked at.
Status = Literal["ok", "warn", "missing", "fail"]

_COLOURS = {"ok": "green", "warn": "yellow", "missing": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Nothing in it shows a secret.

    Attributes:
        name: What was looked at, in a word or three.
        status: How it is.
        found: What was seen, as a sentence without its full stop.
        remedy: What to do about it; empty where nothing is to be done.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


#: Looks at one thing or at several that belong together.
Check: TypeAlias = Callable[[], Iterable[Finding]]
#: The checks by name, one after the other, so that what was found so far can decide about those that are left.
Checks: TypeAlias = Callable[[Sequence[Finding]], Iterable[tuple[str, Check]]]
#: What it means that the check of this name raised this error.
Explain: TypeAlias = Callable[[str, Exception], Finding]


def findings_of(checks: Checks, explain: Explain) -> list[Finding]:
    """What the checks find; one that raises is a finding, too, and the others go on."""
    findings: list[Finding] = []
    for name, check in checks(findings):
        findings += _findings_of(name, check, explain)
    return findings


def findings_table(findings: Iterable[Finding], title: str | None = None) -> Table:
    """The findings for a person."""
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=title and Text(title), title_justify="left"
    )
    table.add_column("", no_wrap=True)
    table.add_column("Looked at", no_wrap=True)
    table.add_column("Found, and what to do", overflow="fold")
    for finding in findings:
        # Text, not markup, and nothing that a terminal obeys: a provider may say anything.
        said = Text("".join(each if each.isprintable() else " " for each in finding.found))
        if finding.remedy:
            said.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(Text(finding.status, style=_COLOURS[finding.status]), Text(finding.name), said)
    return table


def _findings_of(name: str, check: Check, explain: Explain) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield explain(name, error)
