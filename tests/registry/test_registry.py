"""The registry: profiles stored, versioned, looked up without I/O, and shared between processes."""

from __future__ import annotations

import os
import random
import string
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest
from sqlalchemy import Engine, event

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey, ProfileNotFound, RegistryError, RegistryUnavailable
from tje_middleware._version import __version__

OTHER = ProfileKey(model="m2", task="t", temperature=0.7)


@contextmanager
def counted_statements():
    seen = []

    def note(connection, cursor, statement, *rest):
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


class TestVersions:
    def test_what_was_put_comes_back_with_its_version(self, registry):
        made = profile()
        assert registry.put(made) == 1
        assert registry.get(KEY) == made.model_copy(update={"version": 1})

    def test_put_leaves_the_profile_in_hand_as_it_is(self, registry):
        made = profile()
        registry.put(made)
        assert made.version is None

    def test_versions_count_up_and_the_newest_is_the_answer(self, registry):
        assert [registry.put(profile(threshold)) for threshold in (0.1, 0.2, 0.3)] == [1, 2, 3]
        assert registry.get(KEY).threshold("mean") == 0.3

    def test_an_older_version_may_be_asked_for(self, registry):
        registry.put(profile(0.1))
        registry.put(profile(0.2))
        assert registry.get(KEY, version=1).threshold("mean") == 0.1

    def test_history_lists_the_versions_oldest_first(self, registry):
        for threshold in (0.1, 0.2, 0.3):
            registry.put(profile(threshold))
        assert [(one.version, one.threshold("mean")) for one in registry.history(KEY)] == [
            (1, 0.1),
            (2, 0.2),
            (3, 0.3),
        ]

    def test_putting_an_old_version_again_makes_it_the_newest(self, registry):
        registry.put(profile(0.1))
        registry.put(profile(0.2))
        assert registry.put(registry.get(KEY, version=1)) == 3
        assert registry.get(KEY).threshold("mean") == 0.1

    def test_every_key_counts_for_itself(self, registry):
        registry.put(profile())
        registry.put(profile())
        assert registry.put(profile(key=OTHER)) == 1

    def test_keys_that_differ_in_a_setting_alone_are_apart(self, registry):
        keys = [KEY, *(KEY.model_copy(update=part) for part in ({"temperature": 0.0}, {"top_k": 5}))]
        for threshold, key in enumerate(keys):
            registry.put(profile(float(threshold), key=key))
        assert [registry.get(key).threshold("mean") for key in keys] == [0.0, 1.0, 2.0]

    def test_list_gives_the_newest_of_every_key(self, registry):
        for made in (profile(0.1), profile(0.2), profile(0.3, key=OTHER)):
            registry.put(made)
        assert {(one.key, one.version, one.threshold("mean")) for one in registry.list()} == {
            (KEY, 2, 0.2),
            (OTHER, 1, 0.3),
        }

    def test_delete_removes_all_versions_of_one_key(self, registry):
        for made in (profile(), profile(), profile(key=OTHER)):
            registry.put(made)
        assert registry.delete(KEY) == 2
        assert registry.history(KEY) == []
        assert [one.key for one in registry.list()] == [OTHER]

    def test_names_of_any_text_are_kept_apart(self, registry):
        keys = [
            ProfileKey(model=name, task="a/b '; drop table x") for name in ('q"w', "q'w", "模型", "a\\nb", "A\\nb")
        ]
        for key in keys:
            registry.put(profile(key=key))
        assert [registry.get(key).key for key in keys] == keys


class TestProvenance:
    def test_a_version_says_who_put_it_when_and_from_where(self, registry):
        before = datetime.now(timezone.utc)
        registry.put(profile(), source="recalibrated", by="ana")
        (one,) = registry.versions(KEY)
        assert (one.version, one.is_active, one.put_by, one.source) == (1, True, "ana", "recalibrated")
        assert one.library_version == __version__
        assert before <= one.put_at <= datetime.now(timezone.utc)
        assert one.profile == registry.get(KEY)

    def test_who_puts_is_by_default_the_process(self, registry):
        registry.put(profile())
        assert registry.versions(KEY)[0].put_by.endswith(f":{os.getpid()}")

    def test_of_several_one_is_active(self, registry):
        registry.put(profile())
        registry.put(profile())
        registry.put(profile(), candidate=True)
        assert [(one.version, one.is_active) for one in registry.versions(KEY)] == [(1, False), (2, True), (3, False)]

    @pytest.mark.parametrize("text", ["a\0b", "a\x1b[2Jb", "a\nb", "\x9b", "\ud800", "x" * 2001])
    @pytest.mark.parametrize("field", ["by", "source"])
    def test_what_no_database_stores_is_refused(self, registry, field, text):
        with pytest.raises(RegistryError, match=f"^{field} "):
            registry.put(profile(), **{"by": "ana", field: text})
        assert registry.history(KEY) == []

    @pytest.mark.parametrize("part", ["model", "task", "signal", "prompt_fingerprint"])
    @pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "\x9b", "\u202eb"])
    def test_a_key_that_a_terminal_would_obey_is_refused(self, registry, part, text):
        key = KEY.model_copy(update={part: text})
        with pytest.raises(RegistryError, match=r"^the (model|task|signal|prompt)'s .* has a control character"):
            registry.put(profile(key=key))
        assert registry.list() == []

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("records_fingerprint", "", "records_fingerprint is empty"),
            ("records_fingerprint", "a\x1bb", "records_fingerprint has a control character"),
            ("verdict_reason", "a\x1b[2Jb", "a text with a control character"),
            ("notes", ("fine", "\x9b"), "a text with a control character"),
            ("verdict_reason", "x" * 2**22, r"has 4,\d{3},\d{3} bytes, and could not be exported"),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_what_could_not_be_exported_and_imported_again_is_refused(self, registry, field, value, said):
        with pytest.raises(RegistryError, match=said):
            registry.put(profile().model_copy(update={field: value}))
        assert registry.history(KEY) == []

    def test_texts_may_have_several_lines_and_any_script(self, registry):
        made = profile().model_copy(update={"notes": ("one\n\ttwo", "äß 模型 👩‍🔬", "\\u001b[2J")})
        registry.put(made)
        assert registry.get(KEY).notes == made.notes


class TestLongKeys:
    def test_what_is_short_enough_for_an_index_is_stored_and_found(self, registry):
        key = ProfileKey(model=random_name(900), task=random_name(900))
        registry.put(profile(key=key))
        assert registry.get(key).key == key

    def test_a_longer_one_is_refused_with_what_to_do(self, registry):
        key = ProfileKey(model="m", task=random_name(2000))
        with pytest.raises(RegistryError, match=r"the key has 2,\d{3} bytes, and at most 2,000 .*shorten it"):
            registry.put(profile(key=key))
        assert registry.lookup(key).profile is None


def random_name(length):
    # Of letters without any order, as PostgreSQL would compress others.
    return "".join(random.Random(0).choices(string.ascii_letters, k=length))


class TestNothingThere:
    def test_get_says_what_to_do(self, registry):
        with pytest.raises(ProfileNotFound, match=r"no profile for m / t .*calibrate and put\(\) one first"):
            registry.get(KEY)

    def test_a_version_that_is_not_there_is_named(self, registry):
        registry.put(profile())
        with pytest.raises(ProfileNotFound, match=r"no version 9 of a profile for m / t .*; it has version 1$"):
            registry.get(KEY, version=9)

    def test_delete_says_so(self, registry):
        with pytest.raises(ProfileNotFound):
            registry.delete(KEY)

    def test_list_and_history_are_empty(self, registry):
        assert list(registry.list()) == list(registry.history(KEY)) == []

    def test_nothing_is_opened_before_the_first_use(self, tmp_path):
        path = tmp_path / "tje.db"
        CalibrationRegistry(f"sqlite:///{path}").close()
        assert not path.exists()

    def test_a_registry_may_be_used_after_it_was_closed(self, registry):
        with registry:
            registry.put(profile())
        assert registry.get(KEY).version == 1


class TestLookup:
    def test_warm_does_no_io(self, registry):
        registry.put(profile())
        registry.lookup(KEY)
        with counted_statements() as statements:
            assert registry.lookup(KEY).profile.version == 1
        assert statements == []

    def test_cold_asks_once_for_the_profile_and_the_aliases(self, registry, url):
        registry.put(profile())
        with CalibrationRegistry(url) as cold, counted_statements() as statements:
            cold.lookup(KEY)
        for table in ("tje_profiles", "tje_aliases"):
            assert len([one for one in statements if f"FROM {table}" in one]) == 1
        assert not any(one.startswith(("CREATE", "INSERT")) for one in statements)

    def test_get_sees_what_another_process_has_put_and_lookups_go_on_with_it(self, registry, url):
        registry.put(profile())
        registry.lookup(KEY)
        with CalibrationRegistry(url) as another:
            another.put(profile())
        assert registry.get(KEY).version == 2
        assert registry.lookup(KEY).profile.version == 2

    def test_an_old_version_that_was_asked_for_does_not_become_the_answer(self, registry):
        registry.put(profile())
        registry.put(profile())
        registry.get(KEY, version=1)
        assert registry.lookup(KEY).profile.version == 2

    def test_finds_nothing_without_raising(self, registry):
        found = registry.lookup(KEY)
        assert (found.profile, found.stale) == (None, False)
        assert "no profile" in found.problem

    def test_serves_the_last_profile_when_the_folder_is_gone(self, tmp_path):
        folder = tmp_path / "folder"
        folder.mkdir()
        with CalibrationRegistry(f"sqlite:///{folder}/tje.db", refresh_seconds=0.1) as registry:
            registry.put(profile())
            registry.lookup(KEY)
            folder.rename(tmp_path / "elsewhere")
            found = until(lambda: registry.lookup(KEY), lambda answer: answer.stale)
        assert found.profile.version == 1
        assert "unable to open" in found.problem

    def test_sees_a_file_that_was_put_in_the_place_of_the_old_one(self, tmp_path):
        with CalibrationRegistry(f"sqlite:///{tmp_path}/tje.db", refresh_seconds=0.1) as registry:
            registry.put(profile(0.1))
            registry.lookup(KEY)
            CalibrationRegistry(f"sqlite:///{tmp_path}/new.db").put(profile(0.9))
            (tmp_path / "new.db").replace(tmp_path / "tje.db")
            until(lambda: registry.lookup(KEY).profile.threshold("mean"), lambda threshold: threshold == 0.9)


def until(ask, is_right):
    """The first answer that is right; the background has ten seconds for it."""
    deadline = time.monotonic() + 10
    while not is_right(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer


_PUT_25 = """
import sys
from tje_middleware import CalibrationProfile, CalibrationRegistry
registry = CalibrationRegistry(sys.argv[1])
profile = CalibrationProfile.model_validate_json(sys.argv[2])
sys.stdin.readline()
print(*(registry.put(profile) for _ in range(25)))
"""


class TestSharing:
    def test_processes_that_put_at_once_lose_nothing_even_into_an_empty_database(self, registry, url):
        command = [sys.executable, "-c", _PUT_25, url, profile().model_dump_json()]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        writers = [subprocess.Popen(command, **pipes) for _ in range(4)]
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        versions = [[int(version) for version in writer.communicate(timeout=60)[0].split()] for writer in writers]
        assert [writer.returncode for writer in writers] == [0] * 4
        assert all(own == sorted(own) for own in versions)
        assert sorted(version for own in versions for version in own) == list(range(1, 101))
        assert [one.version for one in registry.history(KEY)] == list(range(1, 101))

    def test_threads_that_put_and_look_up_at_once_lose_nothing(self, registry):
        def put_and_look(_):
            version = registry.put(profile_made)
            assert registry.lookup(KEY).profile is not None
            return version

        profile_made = profile()
        with ThreadPoolExecutor(max_workers=20) as pool:
            assert sorted(pool.map(put_and_look, range(40))) == list(range(1, 41))

    def test_two_registries_of_one_database_share_what_is_stored(self, registry, url):
        registry.put(profile())
        with CalibrationRegistry(url) as another:
            assert another.get(KEY).version == 1


class TestUrls:
    @pytest.mark.parametrize("url", ["", "tje.db", "/tmp/tje.db", None, 7])
    def test_what_is_no_url_is_refused_with_one_that_is(self, url):
        with pytest.raises(RegistryError, match=r"no registry URL; a file is sqlite:///path/to/tje\.db"):
            CalibrationRegistry(url)

    @pytest.mark.parametrize(
        "url", ["mysql://u:secret@host/x", "sqlite+aiosqlite:///x.db", "postgresql+asyncpg://h/x"]
    )
    def test_another_database_is_refused_with_what_works(self, url):
        with pytest.raises(RegistryError, match=r"SQLite or PostgreSQL, not in .*; a file is sqlite:///") as refused:
            CalibrationRegistry(url)
        assert "secret" not in str(refused.value)

    def test_a_password_in_a_broken_url_is_not_repeated(self):
        with pytest.raises(RegistryError, match="no registry URL") as refused:
            CalibrationRegistry("postgresql://u:secret@host:port/tje")
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
    )
    def test_a_registry_in_memory_is_refused_with_what_works(self, url):
        with pytest.raises(RegistryError, match="shared with nobody; a file is sqlite:///"):
            CalibrationRegistry(url)

    @pytest.mark.parametrize("name", ["a b.db", "50%.db", "ä?.db", "a#b.db"])
    def test_a_relative_path_of_any_name_stays_in_the_folder_of_its_making(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        registry = CalibrationRegistry(f"sqlite:///{name.replace('?', '')}")
        monkeypatch.chdir("/")
        registry.put(profile())
        assert (tmp_path / name.replace("?", "")).exists()

    @pytest.mark.parametrize("use", [lambda r: r.get(KEY), lambda r: r.list(), lambda r: r.put(profile())])
    def test_a_missing_folder_is_named_with_what_to_check(self, tmp_path, use):
        registry = CalibrationRegistry(f"sqlite:///{tmp_path}/missing/tje.db")
        with pytest.raises(RegistryUnavailable, match=r"missing/tje\.db.*check that its folder exists"):
            use(registry)


def test_a_key_without_a_profile_is_told_of_those_that_may_have_been_meant(tmp_path):
    registry = CalibrationRegistry(f"sqlite:///{tmp_path}/r.db")
    registry.put(profile(key=ProfileKey(model="gpt-4o", task="support", signal="length", temperature=0)))
    registry.put(profile(key=ProfileKey(model="other", task="another")))
    with pytest.raises(
        ProfileNotFound, match=r"it has gpt-4o / support / length \(top 20, temperature 0\): name the"
    ):
        registry.get(ProfileKey(model="gpt-4o", task="support"))
    with pytest.raises(ProfileNotFound, match=r"calibrate and put\(\) one first"):
        registry.get(ProfileKey(model="m", task="t"))
