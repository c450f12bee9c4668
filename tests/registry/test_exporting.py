"""Export and import: what a registry holds, as a file that is believed whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey, ProfileNotFound, RegistryError
from tje_middleware.errors import UnreadableExport
from tje_middleware.registry import stored_keys
from tje_middleware.registry.tables import ACTING
from tje_middleware.registry.transfer import OtherActive

OTHER = ProfileKey(model="m2", task="t", temperature=0.7)


@pytest.fixture
def filled(registry):
    registry.put(profile(0.1), by="ana")
    registry.put(profile(0.2), by="bob", source="recalibrated")
    registry.put(profile(0.3), candidate=True)
    registry.put(profile(0.4, key=OTHER))
    registry.rollback(KEY)
    registry.alias("dated", "m")
    registry.alias("dated2", "m2")
    return registry


@pytest.fixture
def target(other_url):
    with CalibrationRegistry(other_url) as opened:
        yield opened


@pytest.fixture
def path(tmp_path):
    return tmp_path / "export.jsonl"


def exported(registry, **how):
    stream = io.BytesIO()
    registry.export_to(stream, **how)
    return stream.getvalue()


def content(registry):
    """All that an export is of."""
    return {one.key: registry.versions(one.key) for one in registry.list()}, registry.aliases()


class TestIntoAnEmptyRegistry:
    def test_everything_is_as_it_was(self, filled, target, path):
        assert filled.export_to(path) == 4
        report = target.import_from(path)
        assert (report.stored, report.skipped) == (4, 0)
        assert set(report.aliases) == {"dated", "dated2"}
        assert content(target) == content(filled)
        assert target.get(KEY).version == 1

    def test_numbers_go_on_where_they_were(self, filled, target, path):
        filled.export_to(path)
        target.import_from(path)
        assert target.put(profile()) == 4

    @pytest.mark.parametrize("promote", [True, False])
    def test_what_was_active_when_is_as_it_was(self, filled, target, path, promote):
        filled.export_to(path)
        report = target.import_from(path, promote=promote)
        assert target.promotions(KEY) == filled.promotions(KEY)
        assert [one.action for one in target.promotions(KEY)] == ["put", "put", "rollback"]
        assert {(one.key, one.version) for one in report.versions if one.is_active} == {(KEY, 1), (OTHER, 1)}
        assert (report.promoted, report.kept) == ((), ())

    def test_rolling_back_goes_on_where_it_was(self, registry, target, path):
        for threshold in (0.1, 0.2, 0.3):
            registry.put(profile(threshold))
        registry.export_to(path)
        target.import_from(path)
        assert [target.rollback(KEY), target.rollback(KEY)] == [2, 1]

    def test_a_superseded_version_is_no_candidate(self, registry, target, path):
        registry.put(profile(0.1))
        registry.put(profile(0.2))
        registry.rollback(KEY)
        registry.put(profile(0.3), candidate=True)
        registry.export_to(path)
        target.import_from(path)
        assert [one.candidates for one in stored_keys(target.database)] == [(3,)]

    def test_of_versions_that_were_deleted_nothing_is_told(self, registry, target, path):
        registry.put(profile(0.1))
        registry.delete(KEY)
        registry.put(profile(0.2))
        registry.export_to(path)
        target.import_from(path)
        assert [(one.from_version, one.to_version) for one in target.promotions(KEY)] == [(None, 2)]
        with pytest.raises(RegistryError, match="nothing"):
            target.rollback(KEY)

    def test_lookups_see_it_at_once(self, filled, target, path):
        filled.export_to(path)
        assert target.lookup(KEY).profile is None
        target.import_from(path)
        assert target.lookup(KEY).profile.version == 1

    def test_from_a_stream_that_gives_a_few_bytes_at_a_time(self, filled, target):
        class Pipe(io.BytesIO):
            def read(self, size=-1):
                return super().read(min(size, 1000))

        target.import_from(Pipe(exported(filled)))
        assert content(target) == content(filled)

    def test_from_the_other_database(self, filled, path, tmp_path):
        filled.export_to(path)
        with CalibrationRegistry(f"sqlite:///{tmp_path}/file.db") as file:
            file.import_from(path)
            assert content(file) == content(filled)


class TestIntoOneThatHasVersions:
    def test_importing_twice_changes_nothing(self, filled, target, path):
        filled.export_to(path)
        target.import_from(path)
        before = content(target), target.promotions(KEY)
        report = target.import_from(path)
        assert (report.stored, report.skipped, report.promoted, report.aliases) == (0, 4, (), ())
        assert (content(target), target.promotions(KEY)) == before

    def test_others_get_the_next_numbers_and_the_same_are_left_out(self, filled, target, path):
        target.put(profile(0.9))
        target.put(filled.get(KEY, version=2))
        filled.export_to(path)
        report = target.import_from(path, promote=True)
        numbers = {one.exported: (one.version, one.is_new) for one in report.versions if one.key == KEY}
        assert numbers == {1: (3, True), 2: (2, False), 3: (4, True)}
        assert [one.threshold("mean") for one in target.history(KEY)] == [0.9, 0.2, 0.1, 0.3]
        assert report.promoted == (OtherActive(KEY, before=2, after=3),)
        assert target.get(KEY).threshold("mean") == 0.1
        last = target.promotions(KEY)[-1]
        assert (last.from_version, last.to_version, last.action) == (2, 3, "import")

    @pytest.mark.parametrize("active", [1, 2])
    @pytest.mark.parametrize("promote", [True, False])
    def test_of_the_same_put_twice_the_active_one_stays_so(self, registry, path, active, promote):
        same = profile()
        assert [registry.put(same), registry.put(same)] == [1, 2]
        registry.promote(KEY, active)
        registry.export_to(path)
        report = registry.import_from(path, promote=promote)
        assert [(one.exported, one.version, one.is_active) for one in report.versions] == [
            (1, 1, active == 1),
            (2, 2, active == 2),
        ]
        assert (report.stored, report.promoted, report.kept) == (0, (), ())
        assert registry.get(KEY).version == active

    @pytest.mark.parametrize("active", [1, 2])
    def test_of_the_same_put_twice_it_does_so_under_other_numbers(self, registry, target, path, active):
        same = profile()
        assert [registry.put(same), registry.put(same)] == [1, 2]
        registry.promote(KEY, active)
        target.put(profile(0.9))
        registry.export_to(path)
        assert target.import_from(path, promote=True).promoted == (OtherActive(KEY, before=1, after=active + 1),)
        assert target.import_from(path, promote=True).promoted == ()
        assert target.get(KEY).version == active + 1

    def test_unless_asked_for_what_is_active_stays_so_and_new_keys_are_as_in_the_file(self, filled, target, path):
        target.put(profile(0.9))
        log = target.promotions(KEY)
        filled.export_to(path)
        report = target.import_from(path, promote=False)
        assert target.get(KEY).threshold("mean") == 0.9
        assert target.promotions(KEY) == log
        assert (report.promoted, report.kept) == ((), (OtherActive(KEY, before=1, after=2),))
        assert target.get(OTHER).threshold("mean") == 0.4

    def test_where_only_candidates_are_none_becomes_active_unless_asked_for(self, filled, target, path):
        target.put(profile(0.9), candidate=True)
        filled.export_to(path)
        assert target.import_from(path, promote=False).kept == (OtherActive(KEY, before=None, after=2),)
        assert target.lookup(KEY).profile is None
        assert target.import_from(path, promote=True).promoted == (OtherActive(KEY, before=None, after=2),)
        assert target.lookup(KEY).profile.version == 2

    def test_an_alias_that_was_withdrawn_comes_back_only_when_asked_for(self, filled, path):
        filled.export_to(path)
        filled.unalias("dated")
        report = filled.import_from(path, promote=False)
        assert (report.aliases, report.aliases_kept) == ((), ("dated",))
        assert "dated" not in filled.aliases()
        assert filled.import_from(path, promote=True).aliases == ("dated",)
        assert filled.aliases()["dated"] == "m"

    def test_what_was_deleted_comes_back_with_what_was_active_when(self, filled, path):
        filled.export_to(path)
        filled.delete(KEY)
        report = filled.import_from(path, promote=False)
        assert {one.exported: one.version for one in report.versions if one.key == KEY} == {1: 4, 2: 5, 3: 6}
        assert filled.get(KEY).threshold("mean") == 0.1
        assert [one.to_version for one in filled.promotions(KEY)][-3:] == [4, 5, 4]

    def test_numbers_of_deleted_versions_are_not_given_again(self, filled, target, path):
        target.put(profile(0.9))
        target.delete(KEY)
        filled.export_to(path)
        target.import_from(path)
        assert [one.version for one in target.history(KEY)] == [2, 3, 4]

    def test_an_alias_of_another_model_refuses_all_of_it(self, filled, target, path):
        target.alias("dated", "another")
        filled.export_to(path)
        with pytest.raises(RegistryError, match="'dated' is an alias of 'another' already"):
            target.import_from(path)
        assert content(target) == ({}, {"dated": "another"})


class TestExporting:
    def test_some_keys_go_with_the_aliases_of_their_models(self, filled, target, path):
        assert filled.export_to(path, keys=[OTHER]) == 1
        target.import_from(path)
        assert [one.key for one in target.list()] == [OTHER]
        assert target.aliases() == {"dated2": "m2"}

    def test_a_key_that_is_not_there_is_named_and_no_file_is_made(self, filled, path):
        with pytest.raises(ProfileNotFound, match="no profile for m3"):
            filled.export_to(path, keys=[KEY, ProfileKey(model="m3", task="t")])
        assert not path.exists()

    def test_an_empty_registry_is_an_export_of_nothing(self, registry, target, path):
        assert registry.export_to(path) == 0
        assert target.import_from(path).stored == 0

    def test_the_checksum_is_that_of_the_lines_before(self, filled):
        lines = exported(filled).splitlines(keepends=True)
        assert lines[-1] == b'{"sha256":"%s"}\n' % hashlib.sha256(b"".join(lines[:-1])).hexdigest().encode()

    def test_what_cannot_be_written_is_named_and_the_old_file_stays(self, filled, path, tmp_path):
        for where in (tmp_path, tmp_path / "missing" / "x.jsonl"):
            with pytest.raises(RegistryError, match=str(where)):
                filled.export_to(where)

    def test_what_could_not_be_imported_again_is_not_written(self, filled, path, monkeypatch):
        monkeypatch.setattr("tje_middleware.registry.transfer_format.MOST_BYTES", 2000)
        with pytest.raises(RegistryError, match="export some of the keys"):
            filled.export_to(path)
        assert not path.exists()


def refused(registry, file, said):
    """An import is refused for this reason, and stores nothing."""
    before = content(registry)
    with pytest.raises(UnreadableExport, match=said):
        registry.import_from(file if isinstance(file, Path) else io.BytesIO(file))
    assert content(registry) == before


class TestFiles:
    def test_one_that_is_not_there(self, registry, tmp_path):
        refused(registry, tmp_path / "none.jsonl", r"none.jsonl cannot be read: No such file")

    def test_a_folder(self, registry, tmp_path):
        refused(registry, tmp_path, "is no file that could be an export")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
    def test_a_pipe_that_nobody_writes_to(self, registry, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        refused(registry, tmp_path / "pipe", "is no file that could be an export")

    def test_an_empty_one(self, registry):
        refused(registry, b"", "line 1: the end of the file is missing; nothing was stored")

    def test_one_that_was_cut(self, filled):
        whole = exported(filled)
        for end in (10, len(whole) // 2, len(whole) - 1, whole.rindex(b'{"sha256"')):
            refused(filled, whole[:end], "the end of the file is missing")

    def test_one_with_something_after_its_end(self, filled):
        refused(filled, exported(filled) + b"\n", "something after the checksum")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with CalibrationRegistry(f"sqlite:///{tmp_path_factory.mktemp('whole')}/tje.db") as registry:
        registry.put(profile(0.1))
        registry.alias("dated", "m")
        return exported(registry)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_that_was_changed_is_noticed(whole, tmp_path, data):
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    with CalibrationRegistry(f"sqlite:///{tmp_path}/target.db") as target:
        with pytest.raises(UnreadableExport, match="line "):
            target.import_from(io.BytesIO(whole[:place] + bytes([byte]) + whole[place + 1 :]))
        assert list(target.list()) == []


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda name: not ACTING.search(name))
keys = st.builds(
    ProfileKey,
    model=names,
    task=names,
    top_k=st.integers(1, 50),
    temperature=st.none() | st.floats(0, 2),
)
puts = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 10), st.booleans(), st.booleans()), max_size=8)


@settings(max_examples=15, deadline=None)
@given(kinds=st.lists(keys, min_size=3, max_size=3, unique=True), puts=puts)
def test_what_is_exported_is_what_is_imported(kinds, puts):
    with tempfile.TemporaryDirectory() as folder:
        source = CalibrationRegistry(f"sqlite:///{folder}/source.db")
        target = CalibrationRegistry(f"sqlite:///{folder}/target.db")
        for which, threshold, candidate, promoted in puts:
            version = source.put(profile(threshold, key=kinds[which]), candidate=candidate)
            if promoted:
                source.promote(kinds[which], version)
        target.import_from(io.BytesIO(exported(source)))
        for key in kinds:
            assert target.versions(key) == source.versions(key)
            assert target.promotions(key) == source.promotions(key)
        assert exported(target) == exported(source)
