"""The database beneath: the same file from every folder, made by writing alone, and of this release each time."""

from __future__ import annotations

import os
import pickle
import sqlite3
import traceback

import pytest
from sqlalchemy import text

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileNotFound, RegistryDamaged, RegistryUnavailable
from tje_middleware.errors import SchemaMismatch
from tje_middleware.storage import Database
from tje_middleware.storage.schema import VERSION_TABLE


class TestARelativePath:
    @pytest.fixture
    def registry(self, tmp_path, monkeypatch):
        """Made in a folder that the process has left since."""
        (tmp_path / "made").mkdir()
        (tmp_path / "gone to").mkdir()
        monkeypatch.chdir(tmp_path / "made")
        with CalibrationRegistry("sqlite:///tje.db") as registry:
            registry.put(profile())
            monkeypatch.chdir(tmp_path / "gone to")
            yield registry

    def test_is_the_same_file_after_the_process_went_to_another_folder(self, registry, tmp_path):
        assert registry.get(KEY).version == 1
        assert registry.put(profile()) == 2
        assert list((tmp_path / "gone to").iterdir()) == []

    def test_is_not_confused_with_a_file_of_that_name_there(self, registry, tmp_path):
        (tmp_path / "gone to" / "tje.db").write_text("hello")
        assert registry.get(KEY).version == 1

    @pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
    def test_is_made_private_wherever_the_process_is(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        database = Database("sqlite:///tje.db")
        monkeypatch.chdir("/")
        database.migrate()
        assert (tmp_path / "tje.db").stat().st_mode & 0o777 == 0o600

    def test_is_shown_as_it_was_given(self, registry):
        assert registry.url == "sqlite:///tje.db"

    def test_is_the_same_file_for_a_process_that_the_database_is_sent_to(self, registry, tmp_path, monkeypatch):
        sent = pickle.dumps(registry.database)
        monkeypatch.chdir(tmp_path)
        with pickle.loads(sent).reading() as read:
            assert read(text("SELECT count(*) FROM tje_profiles"))[0][0] == 1
        assert not (tmp_path / "tje.db").exists()


def test_a_password_of_any_kind_is_sent_along(postgres):
    url = "postgresql+psycopg://u:a%40b%2F%3Ac%25@127.0.0.1:1/tje?application_name=a%26b"
    sent = pickle.loads(pickle.dumps(Database(url)))
    assert sent.url.value == Database(url).url.value


class TestAFileThatIsNotThere:
    @pytest.mark.parametrize("read", [lambda r: r.lookup(KEY), lambda r: r.list(), lambda r: r.aliases()])
    def test_is_not_made_by_reading(self, tmp_path, read):
        with CalibrationRegistry(f"sqlite:///{tmp_path}/none.db") as registry:
            assert not getattr(read(registry), "profile", None)
        assert list(tmp_path.iterdir()) == []

    def test_has_no_profile(self, tmp_path):
        with CalibrationRegistry(f"sqlite:///{tmp_path}/none.db") as registry:
            with pytest.raises(ProfileNotFound):
                registry.get(KEY)
            assert registry.put(profile()) == 1
            assert registry.get(KEY).version == 1

    def test_of_a_folder_that_is_not_there_is_told(self, tmp_path):
        registry = CalibrationRegistry(f"sqlite:///{tmp_path}/none/tje.db")
        with pytest.raises(RegistryUnavailable, match="check that its folder exists"):
            registry.list()


@pytest.mark.parametrize("left", [None, b""], ids=["nothing", "an empty file"])
def test_a_file_that_was_removed_is_made_anew_with_its_write_ahead_log(tmp_path, left):
    path = tmp_path / "tje.db"
    with CalibrationRegistry(f"sqlite:///{path}") as registry:
        registry.put(profile())
        for file in tmp_path.iterdir():
            file.unlink()
        if left is not None:
            path.write_bytes(left)
        assert registry.put(profile()) == 1
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()


class TestATableThatAnotherReleaseChanged:
    USES = pytest.mark.parametrize(
        "use", [lambda r: r.get(KEY), lambda r: r.versions(KEY), lambda r: r.list(), lambda r: r.put(profile())]
    )

    @USES
    def test_is_refused_by_whoever_used_it_before(self, registry, use):
        registry.put(profile())
        registry.get(KEY)
        with registry.database.engine.begin() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        with pytest.raises(SchemaMismatch, match="upgrade tje-middleware"):
            use(registry)

    def test_is_used_again_when_it_is_as_before(self, registry):
        registry.put(profile())
        for version, works in (("9999", False), ("0002", True)):
            with registry.database.engine.begin() as connection:
                connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))
            if works:
                assert registry.get(KEY).version == 1
            else:
                with pytest.raises(SchemaMismatch):
                    registry.get(KEY)


def test_what_a_failing_statement_was_to_store_is_in_no_traceback(registry):
    registry.put(profile())
    secret = "what somebody asked for"
    query = text("INSERT INTO tje_aliases (alias, model, colour) VALUES (:alias, 'm', 1)")
    with pytest.raises((SchemaMismatch, RegistryDamaged)) as caught, registry.database.writing() as connection:
        connection.execute(query, {"alias": secret})
    assert secret not in "".join(traceback.format_exception(caught.value))
