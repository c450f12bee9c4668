"""A registry of the previous release: refused until it is migrated, and then as it was."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.errors import SchemaMismatch
from tje_middleware.ledger import tables as _ledger_tables  # noqa: F401 (the schema is that of both rooms)
from tje_middleware.storage import HEAD, Database
from tje_middleware.storage.schema import METADATA, VERSION_TABLE

OTHER = ProfileKey(model="m2", task="t")
# As the previous release made it, word for word.
TABLE = """
CREATE TABLE tje_profiles (
	key VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (key, version)
)
"""  # noqa: W291
USES = {
    "get": lambda registry: registry.get(KEY),
    "a version": lambda registry: registry.get(KEY, version=1),
    "list": lambda registry: registry.list(),
    "history": lambda registry: registry.history(KEY),
    "versions": lambda registry: registry.versions(KEY),
    "put": lambda registry: registry.put(profile()),
    "promote": lambda registry: registry.promote(KEY, 1),
    "rollback": lambda registry: registry.rollback(KEY),
    "delete": lambda registry: registry.delete(KEY),
    "alias": lambda registry: registry.alias("a", "m"),
    "aliases": lambda registry: registry.aliases(),
    "alarms": lambda registry: registry.alarms(),
}


@pytest.fixture
def old(url):
    """The URL of a registry of the previous release."""
    database = Database(url)
    with database.engine.begin() as connection:
        connection.execute(text(TABLE))
        for key, version, threshold in ((KEY, 1, 0.1), (KEY, 2, 0.2), (OTHER, 1, 0.3)):
            body = profile(threshold, key=key, version=version).model_dump_json()
            row = {"key": key.model_dump_json(), "version": version, "body": body}
            connection.execute(text("INSERT INTO tje_profiles VALUES (:key, :version, :body)"), row)
    database.close()
    return url


def rows(url):
    database = Database(url)
    with database.engine.connect() as connection:
        found = connection.execute(text("SELECT key, version, body FROM tje_profiles ORDER BY key, version")).all()
        tables = sorted(inspect(connection).get_table_names())
    database.close()
    return found, tables


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_refuses_it_with_the_command_and_changes_nothing(old, use):
    before = rows(old)
    said = r"an earlier release .*; nothing was changed: run tje registry migrate"
    with CalibrationRegistry(old) as registry, pytest.raises(SchemaMismatch, match=said):
        use(registry)
    assert rows(old) == before


def test_a_lookup_says_so_without_raising(old):
    with CalibrationRegistry(old) as registry:
        found = registry.lookup(KEY)
    assert found.profile is None
    assert "tje registry migrate" in found.problem


def test_migrated_it_is_as_it_was_with_the_newest_version_active(old):
    with CalibrationRegistry(old) as registry:
        assert registry.database.migrate() == ("0001", HEAD)
        assert [(one.key, one.version, one.threshold("mean")) for one in registry.list()] == [
            (KEY, 2, 0.2),
            (OTHER, 1, 0.3),
        ]
        assert [one.threshold("mean") for one in registry.history(KEY)] == [0.1, 0.2]
        assert [(one.is_active, one.put_by) for one in registry.versions(KEY)] == [(False, None), (True, None)]
        assert [(one.to_version, one.action) for one in registry.promotions(KEY)] == [(2, "migrate")]
        assert registry.put(profile()) == 3
        assert registry.rollback(KEY) == 2


def test_migrating_again_changes_nothing(old):
    with CalibrationRegistry(old) as registry:
        registry.database.migrate()
        before = rows(old), registry.promotions(KEY)
        assert registry.database.migrate() == (HEAD, HEAD)
        assert (rows(old), registry.promotions(KEY)) == before


def test_two_that_migrate_at_once_do_it_once(old):
    script = (
        "import sys; from tje_middleware.storage import Database; database = Database(sys.argv[1]); "
        "print('ready', flush=True); sys.stdin.readline(); print(*database.migrate())"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", script, old], **pipes) for _ in range(2)]
    for one in both:
        assert one.stdout.readline() == "ready\n"
    for one in both:
        one.stdin.write("go\n")
        one.stdin.flush()
    outcomes = sorted(one.communicate(timeout=60)[0].split() for one in both)
    assert outcomes == [["0001", HEAD], [HEAD, HEAD]]
    with CalibrationRegistry(old) as registry:
        assert len(registry.promotions(KEY)) == 1


@pytest.mark.parametrize(
    "use", [*USES.values(), lambda registry: registry.database.migrate()], ids=[*USES, "migrate"]
)
def test_that_of_a_newer_release_is_refused_with_what_to_do(registry, url, use):
    registry.put(profile())
    with registry.database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    said = r"does not know \(9999, this one needs .*upgrade tje-middleware"
    with CalibrationRegistry(url) as another, pytest.raises(SchemaMismatch, match=said):
        use(another)


@pytest.mark.parametrize("start", ["empty", "old"])
def test_the_migrations_lead_to_the_tables_that_the_code_uses(request, url, start):
    if start == "old":
        request.getfixturevalue("old")
    database = Database(url)
    database.migrate()
    with database.engine.connect() as connection:
        assert differences(connection) == []
    database.close()


def test_databases_made_at_once_by_threads_of_one_process_get_their_own_tables(tmp_path):
    databases = [Database(f"sqlite:///{tmp_path / str(n)}.db") for n in range(24)]
    together = threading.Barrier(8, timeout=60)

    def make(database):
        together.wait()
        return database.migrate()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(make, databases)) == [(None, HEAD)] * len(databases)
    for database in databases:
        with database.engine.connect() as connection:
            assert differences(connection) == []


def differences(connection):
    """Between the tables that there are and those that the code uses."""
    how = {"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
    return compare_metadata(MigrationContext.configure(connection, opts=how), METADATA)
