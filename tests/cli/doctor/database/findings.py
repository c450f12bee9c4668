"""The findings of an examination, by name."""

from __future__ import annotations

from datetime import timedelta

from tje_middleware import CalibrationRegistry
from tje_middleware.cli.doctor.database import examine
from tje_middleware.cli.doctor.finding import Finding
from tje_middleware.storage import Database


def found(of: str | CalibrationRegistry, *, days: int = 90) -> dict[str, Finding]:
    """What the doctor says, by what it looked at; each is looked at once."""
    findings = examine(Database(of) if isinstance(of, str) else of, old_after=timedelta(days=days))
    by_name = {finding.name: finding for finding in findings}
    assert len(by_name) == len(findings)
    return by_name


def not_ok(findings: dict[str, Finding]) -> dict[str, str]:
    """The status of everything that is not as it should be."""
    return {name: finding.status for name, finding in findings.items() if finding.status != "ok"}
