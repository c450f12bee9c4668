"""What the doctor says of a SQLite file."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.cli.doctor.database.findings import found, not_ok
from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry
from tje_middleware.cli.doctor.database import checks, sqlite
from tje_middleware.cli.doctor.database.sqlite import file_system_of

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tje.db"


@pytest.fixture
def url(file: Path) -> str:
    """Of a registry with one profile."""
    url = f"sqlite:///{file}"
    with CalibrationRegistry(url) as registry:
        registry.put(profile())
    return url


def test_nothing_is_wrong_with_a_registry_as_it_is_made(url):
    findings = found(url)
    assert not_ok(findings) == {}
    assert {
        "reachable",
        "schema",
        "read",
        "write",
        "integrity",
        "profiles",
        "ledger",
    } <= findings.keys()


def test_a_registry_can_be_examined_as_well_as_its_database(url):
    assert found(CalibrationRegistry(url)).keys() == found(url).keys()


def test_looking_changes_nothing(url, file):
    before = list(sqlite3.connect(file).iterdump())
    found(url)
    assert list(sqlite3.connect(file).iterdump()) == before
    assert CalibrationRegistry(url).put(profile()) == 2


def test_a_file_that_is_not_there_is_told_and_not_made(file):
    findings = found(f"sqlite:///{file}")
    assert not_ok(findings) == {"reachable": "fail"}
    assert list(findings) == ["reachable"]
    assert not file.exists()


def test_an_empty_file_has_no_tables_yet(file):
    file.touch(mode=0o600)
    findings = found(f"sqlite:///{file}")
    assert findings["schema"].status == "warn"
    assert "tje registry migrate" in findings["schema"].remedy
    assert findings["migrate"].status == "ok"


def test_a_file_that_is_no_database_is_told(file):
    file.write_bytes(b"no database, but a text that is longer than a page's header" * 100)
    findings = found(f"sqlite:///{file}")
    assert not_ok(findings) == {"reachable": "fail"}
    assert "name another file" in findings["reachable"].found
    assert "move" not in findings["reachable"].found


def test_a_folder_is_told_to_be_one(tmp_path):
    findings = found(f"sqlite:///{tmp_path}")
    assert not_ok(findings) == {"reachable": "fail"}
    assert "it is a folder: name a file in it" in findings["reachable"].found


@pytest.mark.parametrize("table", ["customers (name TEXT)", "tje_profiles (name TEXT)"])
def test_of_another_application_nothing_else_is_looked_at(file, table):
    with sqlite3.connect(file) as theirs:
        theirs.execute(f"CREATE TABLE {table}")
    file.chmod(0o644)
    findings = found(f"sqlite:///{file}")
    assert not_ok(findings) == {"schema": "fail"}
    assert list(findings) == ["reachable", "schema"]
    assert table.split()[0] in findings["schema"].found


def test_a_schema_of_an_earlier_release_is_to_be_migrated(file, url):
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE tje_alembic_version SET version_num = '0001'")
    findings = found(url)
    assert findings["schema"].status == "fail"
    assert "tje registry migrate" in findings["schema"].remedy
    assert findings["migrate"].status == "ok"
    assert "profiles" not in findings


def test_a_schema_of_a_later_release_is_not_to_be_migrated(file, url):
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE tje_alembic_version SET version_num = '9999'")
    findings = found(url)
    assert findings["schema"].status == "fail"
    assert "upgrade tje-middleware" in findings["schema"].remedy


@posix_only
def test_a_file_that_others_may_open_is_told(url, file):
    file.chmod(0o644)
    finding = found(url)["private file"]
    assert finding.status == "warn"
    assert f"chmod 600 {file}" in finding.remedy


def test_a_file_without_a_write_ahead_log_is_told_and_migrating_switches_it_on(url, file):
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA journal_mode = DELETE")
    finding = found(url)["write-ahead log"]
    assert finding.status == "warn"
    assert "delete" in finding.found
    CalibrationRegistry(url).database.migrate()
    assert found(url)["write-ahead log"].status == "ok"


def test_a_writer_that_does_not_let_go_is_told(url, file, monkeypatch):
    monkeypatch.setattr(checks, "_PATIENCE", 50)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    findings = found(url)
    other.close()
    assert not_ok(findings) == {"write": "fail"}
    assert "another process holds it" in findings["write"].found


def test_a_file_that_cannot_be_written_is_told(url, file):
    with sqlite3.connect(file) as raw:
        raw.execute("CREATE TRIGGER full BEFORE INSERT ON tje_keys BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    findings = found(url)
    assert not_ok(findings) == {"write": "fail"}
    assert "make room" in findings["write"].found


def test_pages_that_are_not_in_order_are_told(url, file):
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tje_decisions_by_key'").fetchone()[0]
        size = raw.execute("PRAGMA page_size").fetchone()[0]
    with file.open("r+b") as damaged:
        damaged.seek((root - 1) * size)
        damaged.write(b"\xff" * size)
    finding = found(url)["integrity"]
    assert finding.status == "fail"
    assert "export" in finding.remedy


def test_a_file_whose_end_is_missing_is_told(url, file):
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with file.open("r+b") as cut:
        cut.truncate(file.stat().st_size - 100)
    assert "the end of the file is missing" in found(url)["read"].found


class TestTheFileSystem:
    def test_is_that_of_the_nearest_mount(self, tmp_path):
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
            f"45 21 0:40 / {tmp_path} rw,relatime shared:7 - nfs4 server:/export rw,vers=4.2\n"
            "46 21 0:41 / /elsewhere rw - tmpfs tmpfs rw\n"
        )
        assert file_system_of(tmp_path / "tje.db", mounts) == "nfs4"
        assert file_system_of(Path("/tje.db"), mounts) == "ext4"

    def test_of_a_folder_with_a_space_is_found(self, tmp_path):
        mounts = tmp_path / "mountinfo"
        mounts.write_text(f"45 21 0:40 / {tmp_path}/my\\040disk rw - cifs //server/share rw\n")
        assert file_system_of(tmp_path / "my disk" / "tje.db", mounts) == "cifs"

    def test_of_a_folder_of_any_name_is_found(self, tmp_path):
        place = tmp_path / "données"
        mounts = tmp_path / "mountinfo"
        mounts.write_bytes(
            b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n45 21 0:40 / %b rw - nfs4 s:/x rw\n" % os.fsencode(place)
        )
        assert file_system_of(place / "tje.db", mounts) == "nfs4"

    def test_is_unknown_where_the_system_does_not_tell(self, tmp_path):
        assert file_system_of(tmp_path / "tje.db", tmp_path / "missing") is None

    def test_is_warned_of_where_it_is_on_a_network(self, url, tmp_path, monkeypatch):
        mounts = tmp_path / "mountinfo"
        mounts.write_text("21 1 0:40 / / rw - fuse.sshfs me@server: rw\n")
        monkeypatch.setattr(sqlite, "_MOUNTS", mounts)
        finding = found(url)["file system"]
        assert finding.status == "warn"
        assert "PostgreSQL" in finding.remedy


def test_nothing_is_left_of_a_key_that_the_doctor_tried(url):
    found(url)
    assert [one.key for one in CalibrationRegistry(url).list()] == [KEY]
