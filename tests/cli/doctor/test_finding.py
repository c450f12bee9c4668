"""What both doctors have in common: findings, how checks become them, and how they are shown."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.console import Console

from tje_middleware.cli.doctor.finding import Finding, findings_of, findings_table


def explained(name: str, error: Exception) -> Finding:
    return Finding(name, "fail", str(error))


class TestChecks:
    def test_one_that_raises_is_a_finding_after_those_that_it_made_and_the_others_go_on(self):
        def breaks() -> Iterator[Finding]:
            yield Finding("first", "ok", "seen")
            raise KeyError("lost")

        checks = [("breaks", breaks), ("goes on", lambda: [Finding("last", "ok", "seen")])]
        found = findings_of(lambda _: checks, explained)
        assert [(each.name, each.status) for each in found] == [("first", "ok"), ("breaks", "fail"), ("last", "ok")]

    def test_what_was_found_decides_what_else_is_looked_at(self):
        def checks(findings):
            yield "reachable", lambda: [Finding("reachable", "fail", "no answer")]
            if findings[-1].status != "fail":
                yield "more", lambda: [Finding("more", "ok", "seen")]

        assert [each.name for each in findings_of(checks, explained)] == ["reachable"]


def shown(*findings: Finding) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=60)
    console.print(findings_table(findings))
    return console.file.getvalue()


class TestTheTable:
    def test_says_what_to_do_below_what_was_found(self):
        lines = shown(Finding("clock", "warn", "60 s behind", "use NTP")).splitlines()
        place = next(place for place, line in enumerate(lines) if "60 s behind" in line)
        assert "→ use NTP" in lines[place + 1]

    def test_holds_nothing_that_a_terminal_obeys_and_no_markup(self):
        table = shown(Finding("name", "ok", "\x1b]0;gone\x07 [red]m[/red]"))
        assert "\x1b]" not in table
        assert "\x07" not in table
        assert "[red]m[/red]" in table
