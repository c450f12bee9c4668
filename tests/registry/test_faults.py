"""A registry that is damaged, read-only, full or locked: clear errors, and nothing that was stored is lost."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from tests.children import in_child
from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, RegistryDamaged, RegistryUnavailable, SchemaMismatch

resource = pytest.importorskip("resource", reason="read-only and full files are made the POSIX way")

USES = {
    "get": lambda registry: registry.get(KEY),
    "list": lambda registry: registry.list(),
    "history": lambda registry: registry.history(KEY),
    "put": lambda registry: registry.put(profile()),
    "delete": lambda registry: registry.delete(KEY),
}
uses = pytest.mark.parametrize("use", USES.values(), ids=USES)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tje.db"


@pytest.fixture
def stored(path):
    """A registry with one profile of threshold 0.5."""
    registry = CalibrationRegistry(f"sqlite:///{path}")
    registry.put(profile(0.5))
    return registry


def at(path):
    return CalibrationRegistry(f"sqlite:///{path}")


def outcome(use):
    """What a use gave, or the name and message of what it raised; fit for JSON."""
    try:
        return ["fine", str(use())]
    except Exception as error:
        return [type(error).__name__, str(error)]


def other_application(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table runs (id integer)")
    connection.close()


def same_table_of_another(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table tje_profiles (something text)")
    connection.close()


class TestDamage:
    @uses
    @pytest.mark.parametrize(
        ("ruin", "said"),
        [
            (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), r"not a database.*calibrate anew"),
            (lambda path: path.write_text("a note of somebody\n"), r"not a database.*calibrate anew"),
            (other_application, r"another application's database \(its tables: runs\); .*name another file"),
            (same_table_of_another, "name another database"),
        ],
        ids=["random", "short text", "another application", "another's table of that name"],
    )
    def test_a_file_that_is_no_registry_is_refused_and_left_as_it_is(self, path, use, ruin, said):
        ruin(path)
        before = path.read_bytes()
        with pytest.raises(RegistryDamaged, match=said):
            use(at(path))
        assert path.read_bytes() == before
        assert sorted(path.parent.iterdir()) == [path]

    @uses
    @pytest.mark.parametrize("share", [0.1, 0.5])
    def test_a_truncated_registry_is_refused_and_left_as_it_is(self, path, stored, use, share):
        for _ in range(10):
            stored.put(profile())
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        before = path.read_bytes()
        with pytest.raises(RegistryDamaged, match=r"damaged.*restore a copy"):
            use(at(path))
        assert path.read_bytes() == before

    @uses
    def test_a_registry_that_lost_the_end_of_its_last_page_is_not_taken_for_whole(self, path, stored, use):
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(RegistryDamaged, match=r"end of the file is missing.*restore a copy"):
            use(stored)

    @pytest.mark.parametrize("body", ["{", "", "null", "[]", '{"key": 1}', b"\xff\xfe", 5])
    def test_a_row_that_is_no_profile_is_named(self, path, stored, body):
        with sqlite3.connect(path) as connection:
            connection.execute("update tje_profiles set body = ?", [body])
        connection.close()
        for read in ("get", "list", "history"):
            with pytest.raises(RegistryDamaged, match=r"cannot be read \(version 1 of .*put\(\) anew"):
                USES[read](stored)

    def test_text_that_is_none_is_damage(self, path, stored):
        with sqlite3.connect(path) as connection:
            connection.execute("update tje_profiles set body = cast(x'fffe' as text)")
        connection.close()
        with pytest.raises(RegistryDamaged, match="restore a copy"):
            stored.get(KEY)

    def test_a_profile_of_a_newer_schema_is_refused_with_the_reason(self, path, stored):
        with sqlite3.connect(path) as connection:
            connection.execute("""update tje_profiles set body = json_set(body, '$.schema_version', 99)""")
        connection.close()
        with pytest.raises(RegistryDamaged, match=r"schema_version: .*another release of tje-middleware"):
            stored.get(KEY)

    def test_a_new_profile_mends_a_row_that_cannot_be_read(self, path, stored):
        with sqlite3.connect(path) as connection:
            connection.execute("update tje_profiles set body = '{'")
        connection.close()
        assert stored.put(profile(0.9)) == 2
        assert at(path).get(KEY).threshold("mean") == 0.9

    def test_a_file_that_was_removed_is_named_and_made_anew_by_put(self, path, stored):
        path.unlink()
        with pytest.raises(RegistryUnavailable, match=r"removed or replaced.*put\(\) anew"):
            stored.get(KEY)
        assert stored.put(profile()) == 1
        assert stored.get(KEY).version == 1


@pytest.fixture
def shared_folder():
    """A folder that the user nobody can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


class TestReadOnly:
    @pytest.fixture(params=["folder", "file", "both"])
    def locked_away(self, request, shared_folder):
        path = shared_folder / "tje.db"
        at(path).put(profile(0.5))
        path.chmod(0o444 if request.param in {"file", "both"} else 0o666)
        shared_folder.chmod(0o555 if request.param in {"folder", "both"} else 0o777)
        return path

    def test_reading_works(self, locked_away):
        registry = at(locked_away)
        version = in_child(lambda: outcome(lambda: registry.get(KEY).version), as_nobody=True)
        assert version == ["fine", "1"]

    @pytest.mark.parametrize("change", ["put", "delete"])
    def test_writing_says_what_to_check_and_loses_nothing(self, locked_away, change):
        registry = at(locked_away)
        kind, message = in_child(lambda: outcome(lambda: USES[change](registry)), as_nobody=True)
        assert kind == "RegistryUnavailable"
        assert "check" in message
        assert "folder" in message
        assert [one.threshold("mean") for one in at(locked_away).history(KEY)] == [0.5]

    def test_a_file_that_may_not_be_read_is_named(self, shared_folder):
        path = shared_folder / "tje.db"
        at(path).put(profile())
        path.chmod(0o000)
        kind, message = in_child(lambda: outcome(lambda: at(path).get(KEY)), as_nobody=True)
        assert kind == "RegistryUnavailable"
        assert str(path) in message


def put_until_it_fails(registry):
    for _ in range(1000):
        kind, message = outcome(lambda: registry.put(profile()))
        if kind != "fine":
            return kind, message
    return "fine", ""


class TestFullDisk:
    def test_says_so_and_what_was_stored_stays_readable(self, path, stored):
        def work():
            limit = path.stat().st_size + 8192
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return [*put_until_it_fails(stored), at(path).get(KEY).version]

        kind, message, newest = in_child(work)
        assert kind == "RegistryUnavailable"
        assert "make room" in message
        assert [one.version for one in at(path).history(KEY)] == list(range(1, newest + 1))

    def test_a_database_that_may_not_grow_says_so_and_takes_puts_again_afterwards(self, path, stored):
        def cap(connection, _record):
            connection.execute("pragma max_page_count = 8")

        event.listen(Engine, "connect", cap)
        try:
            kind, message = put_until_it_fails(stored)
        finally:
            event.remove(Engine, "connect", cap)
        assert kind == "RegistryUnavailable"
        assert "full" in message
        newest = at(path).get(KEY).version
        assert stored.put(profile()) == newest + 1


_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.isolation_level = None
connection.execute("begin exclusive")
print("held", flush=True)
sys.stdin.readline()
"""


class TestLocked:
    @pytest.fixture
    def holder(self, path):
        at(path).put(profile())
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], **pipes) as process:
            assert process.stdout.readline() == "held\n"
            yield process
            process.communicate("\n")

    @pytest.mark.usefixtures("holder")
    @pytest.mark.parametrize("use", ["put", "delete"])
    def test_a_writer_says_so_after_the_timeout(self, path, use, monkeypatch):
        monkeypatch.setattr("tje_middleware.storage.sqlite.LOCK_TIMEOUT_SECONDS", 0.05)
        with pytest.raises(RegistryUnavailable, match="another process holds it"):
            USES[use](at(path))

    @pytest.mark.usefixtures("holder")
    def test_readers_go_on(self, path, monkeypatch):
        monkeypatch.setattr("tje_middleware.storage.sqlite.LOCK_TIMEOUT_SECONDS", 0.05)
        assert at(path).get(KEY).version == 1

    def test_waits_for_a_process_that_lets_go_in_time(self, path, holder):
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert at(path).put(profile()) == 2


@pytest.mark.parametrize(
    ("ruin", "named"),
    [("DROP TABLE tje_promotions", "tje_promotions"), ("ALTER TABLE tje_profiles DROP COLUMN source", "source")],
    ids=["table", "column"],
)
def test_a_server_that_lacks_a_table_or_column_is_not_said_to_have_another_name(postgres, ruin, named):
    with CalibrationRegistry(postgres.url()) as registry:
        registry.put(profile())
        with registry.database.engine.begin() as connection:
            connection.exec_driver_sql(ruin)
        with pytest.raises(SchemaMismatch, match=rf"{named}.*does not exist.*tje registry doctor") as caught:
            CalibrationRegistry(registry.database.url.anywhere).put(profile())
    assert "in the URL" not in str(caught.value)


def test_a_server_without_the_database_says_to_check_its_name(postgres):
    url = make_url(postgres.url()).set(database="of_a_typo").render_as_string(hide_password=False)
    with pytest.raises(RegistryUnavailable, match="check the name of the database in the URL"):
        CalibrationRegistry(url).get(KEY)
