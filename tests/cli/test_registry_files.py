"""``tje registry export``, ``import``, ``migrate`` and ``doctor`` on a SQLite file and on PostgreSQL."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.cli import commands
from tests.cli.commands import RUN, ok, plain, said
from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.cli import app
from tje_middleware.registry.tables import PROFILES
from tje_middleware.storage.schema import HEAD

MINI = ProfileKey(model="gpt-4.1-mini", task="t")
DATED = "gpt-4.1-mini-2025-04-14"


@pytest.fixture
def backup(tmp_path) -> Path:
    return tmp_path / "backup.jsonl"


@pytest.fixture
def other(tmp_path) -> str:
    """The URL of a file that is not there yet."""
    return f"sqlite:///{tmp_path}/other.db"


run = partial(commands.run, columns=300)


class TestExport:
    @pytest.mark.usefixtures("store")
    def test_of_one_registry_is_imported_into_another(self, url, backup, other):
        ok(run(url, "export", backup))
        report = json.loads(run(other, "import", backup, "--json").stdout)
        assert (report["stored"], report["skipped"], report["promoted"]) == (3, 0, [])
        with CalibrationRegistry(other) as imported:
            assert imported.get(KEY).version == 2
            assert len(imported.versions(KEY)) == 3
        assert "3 were here already" in ok(run(other, "import", backup))

    @pytest.mark.usefixtures("store")
    def test_goes_to_standard_output_and_comes_from_standard_input(self, url, other):
        exported = run(url, "export")
        assert "3 versions exported" in exported.stderr
        assert "3 versions stored" in ok(run(other, "import", "-", input=exported.stdout_bytes))

    @pytest.mark.usefixtures("store")
    def test_replaces_a_file_only_when_told_to(self, url, backup):
        backup.write_text("a good backup")
        assert "is there already" in said(run(url, "export", backup))
        assert backup.read_text() == "a good backup"
        ok(run(url, "export", backup, "--force"))
        assert "a good backup" not in backup.read_text()

    def test_of_nothing_is_refused_and_names_the_registry(self, url, backup):
        backup.write_text("a good backup")
        with CalibrationRegistry(url) as empty:
            empty.database.migrate()
            assert f"{empty.url} holds nothing" in said(run(url, "export", backup, "--force"))
        assert backup.read_text() == "a good backup"
        assert "holds nothing" in said(run(url, "export"))

    @pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
    @pytest.mark.usefixtures("store")
    def test_is_as_private_as_the_database(self, url, backup):
        ok(run(url, "export", backup))
        assert backup.stat().st_mode & 0o777 == 0o600


class TestImport:
    def test_leaves_what_is_active_and_says_how_to_change_it(self, store, url, backup):
        store.promote(KEY, 1)
        store.put(profile(key=MINI))
        ok(run(url, "export", backup))
        store.promote(KEY, 2)
        store.delete(MINI)
        shown = ok(run(url, "import", backup))
        assert store.get(KEY).version == 2
        assert store.get(MINI).version == 2
        assert f"{KEY}: v2 stays active; that of the file is v1 here." in shown
        assert "--promote" in shown

    def test_told_to_promote_says_what_was_active_and_what_is(self, store, url, backup):
        store.promote(KEY, 1)
        ok(run(url, "export", backup))
        store.promote(KEY, 2)
        assert f"Active now: {KEY}: v2 -> v1" in ok(run(url, "import", backup, "--promote"))
        assert store.get(KEY).version == 1
        store.promote(KEY, 2)
        report = json.loads(run(url, "import", backup, "--promote", "--json").stdout)
        assert report["promoted"] == [{"key": KEY.model_dump(), "before": 2, "after": 1}]

    @pytest.mark.usefixtures("store")
    def test_into_a_new_registry_changes_no_active_version_of_another(self, url, backup, other):
        ok(run(url, "export", backup))
        shown = ok(run(other, "import", backup))
        assert "Active now" not in shown
        assert "stays active" not in shown
        assert "2 2 stored, active" in shown

    def test_restores_what_was_active_when(self, store, url, backup, other):
        store.promote(KEY, 3)
        ok(run(url, "export", backup))
        ok(run(other, "import", backup))
        assert json.loads(run(other, "diff", "m", "t", "--json").stdout)["before"] == 2
        ok(run(other, "rollback", "m", "t"))
        assert json.loads(run(other, "list", "--json").stdout)[0]["active_version"] == 2

    def test_leaves_aliases_of_models_that_are_here_alone_unless_told_to(self, store, url, backup):
        store.alias("m-2025", "m")
        ok(run(url, "export", backup))
        store.unalias("m-2025")
        assert "Aliases left out: m-2025" in ok(run(url, "import", backup))
        assert store.aliases() == {}
        assert "Aliases made: m-2025" in ok(run(url, "import", backup, "--promote"))
        assert store.aliases() == {"m-2025": "m"}

    def test_names_the_registry(self, store, url, backup):
        ok(run(url, "export", backup))
        assert f"0 versions stored in {store.url}, 3 were here already" in ok(run(url, "import", backup))
        assert json.loads(run(url, "import", backup, "--json").stdout)["registry"] == store.url

    @pytest.mark.usefixtures("store")
    def test_of_a_file_that_was_changed_is_refused_and_nothing_of_it_stored(self, url, backup, other):
        ok(run(url, "export", backup))
        backup.write_text(backup.read_text().replace('"usable"', '"unusable"', 1))
        assert "checksum" in said(run(other, "import", backup))
        with CalibrationRegistry(other) as empty:
            assert not empty.list()

    def test_of_a_file_that_is_not_there_is_told(self, url, tmp_path):
        assert "missing.jsonl" in said(run(url, "import", tmp_path / "missing.jsonl"))

    @pytest.mark.parametrize("kind", ["records", "gzip", "database"])
    def test_of_another_kind_of_file_says_what_it_takes(self, other, tmp_path, kind):
        file = tmp_path / "given"
        if kind == "database":
            with CalibrationRegistry(f"sqlite:///{file}") as given:
                given.put(profile())
        else:
            records = b'{"id": "q1", "correct": true, "tokens": 2}\n'
            file.write_bytes(records if kind == "records" else gzip.compress(records * 100))
        assert "no file that tje registry export wrote" in said(run(other, "import", file))


class TestMigrate:
    def test_says_from_where_to_where(self, url):
        assert f"had no tables of tje-middleware and is at {HEAD} now" in ok(run(url, "migrate"))
        assert json.loads(run(url, "migrate", "--json").stdout) == {"before": HEAD, "now": HEAD}
        assert "nothing was changed" in ok(run(url, "migrate"))

    def test_beside_the_tables_of_another_application_says_what_was_there(self, postgres):
        url = postgres.url()
        with CalibrationRegistry(url) as store:
            with store.database.engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE users (id integer)")
            assert "empty" not in ok(run(url, "migrate"))
            assert store.put(profile()) == 1

    def test_refuses_the_schema_of_a_later_release(self, store, url):
        with store.database.writing() as connection:
            connection.exec_driver_sql("UPDATE tje_alembic_version SET version_num = '9999'")
        assert "upgrade tje-middleware" in said(run(url, "migrate"))

    @pytest.mark.parametrize("environment", [{}, {"TJE_REGISTRY": ""}])
    def test_without_a_registry_is_refused(self, tmp_path, monkeypatch, environment):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("TJE_REGISTRY", raising=False)
        done = RUN.invoke(app, ["registry", "migrate"], env={"COLUMNS": "100", **environment})
        assert done.exit_code == 2
        assert "TJE_REGISTRY" in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_takes_the_registry_from_the_environment(self, url):
        done = RUN.invoke(app, ["registry", "migrate"], env={"TJE_REGISTRY": url})
        assert f"is at {HEAD} now" in ok(done)


class TestDoctor:
    @pytest.mark.usefixtures("store")
    def test_of_a_good_registry_finds_nothing_wrong(self, url):
        done = run(url, "doctor", "--json")
        assert done.exit_code == 0, done.output
        found = {one["name"]: one["status"] for one in json.loads(done.stdout)}
        assert set(found.values()) == {"ok"}
        assert found["write"] == "ok"

    def test_fails_where_something_fails_and_says_what_to_do(self, store, url):
        with store.database.writing() as connection:
            connection.execute(update(PROFILES).values(body="{}"))
        done = run(url, "doctor")
        assert done.exit_code == 1
        assert "fail" in done.stdout
        assert "calibrate and put() them anew" in plain(done.stdout)
        assert "Traceback" not in done.output

    def test_does_not_fail_for_a_warning(self, url):
        with CalibrationRegistry(url) as store:
            store.put(profile().model_copy(update={"created_at": datetime.now(timezone.utc) - timedelta(days=9)}))
        assert "warn" in ok(run(url, "doctor", "--old-after", 8))

    @pytest.mark.usefixtures("store")
    def test_is_a_table_in_100_columns(self, url):
        assert max(map(len, run(url, "doctor", columns=100).stdout.splitlines())) <= 100

    def test_of_another_application_advises_to_change_nothing_of_it(self, tmp_path):
        file = tmp_path / "theirs.db"
        with sqlite3.connect(file) as theirs:
            theirs.execute("CREATE TABLE customers (name TEXT)")
        file.chmod(0o644)
        done = run(f"sqlite:///{file}", "doctor")
        assert done.exit_code == 1
        assert "another application's database" in plain(done.stdout)
        assert "chmod" not in done.stdout
        assert "migrate" not in done.stdout
