"""What the doctor says of what a registry holds, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, update

from tests.cli.doctor.database.findings import found, not_ok
from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry
from tje_middleware.ledger.tables import DROPS
from tje_middleware.registry.tables import ALARMS, PROFILES

NOW = datetime.now(timezone.utc)


@pytest.fixture(params=["sqlite", "postgres"])
def registry(request, tmp_path):
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/tje.db" if is_file else request.getfixturevalue("postgres").url()
    with CalibrationRegistry(url) as made:
        yield made


def test_of_an_empty_registry_says_how_to_fill_it(registry):
    registry.database.migrate()
    findings = found(registry)
    assert not_ok(findings) == {}
    assert "tje calibrate" in findings["profiles"].remedy


def test_counts_versions_and_keys(registry):
    registry.put(profile())
    registry.put(profile())
    registry.put(profile(key=KEY.model_copy(update={"task": "other"})))
    assert found(registry)["profiles"].found == "2 active, all can be read; 3 versions of 2 keys"


def test_an_active_profile_that_cannot_be_read_fails_and_is_named(registry):
    registry.put(profile())
    with registry.database.writing() as connection:
        connection.execute(update(PROFILES).values(body='{"schema_version": 99}'))
    findings = found(registry)
    assert findings["profiles"].status == "fail"
    assert KEY.model_dump_json() in findings["profiles"].found


def test_a_key_that_cannot_be_read_fails(registry):
    with registry.database.writing() as connection:
        connection.execute(insert(PROFILES).values(key="of another release", version=1, body="{}"))
    assert found(registry)["profiles"].status == "fail"


def test_a_key_with_candidates_only_is_told(registry):
    registry.put(profile(), candidate=True)
    finding = found(registry)["candidates"]
    assert finding.status == "warn"
    assert str(KEY) in finding.found


def test_candidates_beside_an_active_version_are_no_fault(registry):
    registry.put(profile())
    registry.put(profile(), candidate=True)
    findings = found(registry)
    assert findings["candidates"].status == "ok"
    assert not_ok(findings) == {}


def test_an_active_profile_that_is_unusable_is_told(registry):
    registry.put(profile())
    registry.put(profile(key=KEY.model_copy(update={"task": "weak"}), verdict="weak"))
    assert found(registry)["verdicts"].status == "ok"
    registry.put(profile(verdict="unusable"))
    finding = found(registry)["verdicts"]
    assert finding.status == "warn"
    assert finding.found == f"unusable, so that every draft goes deeper: {KEY}"
    assert "rollback" in finding.remedy


def test_a_candidate_that_is_unusable_is_no_fault(registry):
    registry.put(profile())
    registry.put(profile(verdict="unusable"), candidate=True)
    assert not_ok(found(registry)) == {}


def test_alarms_about_the_active_version_are_counted(registry):
    registry.put(profile())
    registry.put(profile())
    about = {"key": KEY.model_dump_json(), "kind": "drift", "detail": "d", "evidence": "{}", "raised_by": "h:1"}
    with registry.database.writing() as connection:
        for version, dismissed in ((1, None), (2, None), (2, NOW)):
            values = {**about, "version": version, "raised_at": NOW, "dismissed_at": dismissed}
            connection.execute(insert(ALARMS).values(**values))
    finding = found(registry)["alarms"]
    assert finding.status == "warn"
    assert finding.found.startswith("1 ")


def test_a_profile_is_old_after_as_many_days_as_are_asked_for(registry):
    registry.put(profile().model_copy(update={"created_at": NOW - timedelta(days=40)}))
    assert found(registry, days=41)["age"].status == "ok"
    assert found(registry, days=39)["age"].status == "warn"


def test_decisions_that_were_dropped_lately_are_told(registry):
    registry.put(profile())
    with registry.database.writing() as connection:
        for days, decisions in ((1, 5), (2, 7), (30, 100)):
            values = {"at": NOW - timedelta(days=days), "recorded_by": "h:1", "decisions": decisions}
            connection.execute(insert(DROPS).values(**values))
    finding = found(registry)["ledger"]
    assert finding.status == "warn"
    assert "12 were dropped" in finding.found


def test_decisions_that_cannot_be_stored_are_not_put_down_to_a_full_queue(registry):
    registry.put(profile())
    values = {"at": NOW, "recorded_by": "h:1", "decisions": 3}
    with registry.database.writing() as connection:
        connection.execute(insert(DROPS).values(**values, refused=3))
    refused = found(registry)["ledger"]
    assert "3 were dropped in the last 7 days: 3 could not be stored" in refused.found
    assert "capacity" not in refused.remedy
    with registry.database.writing() as connection:
        connection.execute(insert(DROPS).values(**values, refused=1))
    both = found(registry)["ledger"]
    assert "6 were dropped in the last 7 days: 4 could not be stored, 2 found a queue full" in both.found
    assert "log" in both.remedy
    assert "capacity" in both.remedy


def test_of_many_keys_a_few_are_named(registry):
    for place in range(5):
        registry.put(profile(key=KEY.model_copy(update={"task": f"t{place}"})), candidate=True)
    assert found(registry)["candidates"].found.endswith("and 2 more")
