"""Which version is active: promoted, rolled back, refused where somebody else was faster, and written down."""

from __future__ import annotations

import sqlite3

import pytest

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey, ProfileNotFound, RegistryDamaged, RegistryError
from tje_middleware.errors import StalePromotion


@pytest.fixture
def three(registry):
    """A registry with versions 1 and 2, of which 2 is active, and candidate 3."""
    for threshold in (0.1, 0.2):
        registry.put(profile(threshold), by="ana")
    registry.put(profile(0.3), candidate=True, by="ana")
    return registry


def active(registry):
    return registry.get(KEY).version


class TestCandidates:
    def test_a_candidate_waits(self, three):
        assert (active(three), three.lookup(KEY).profile.version) == (2, 2)
        assert three.get(KEY, version=3).threshold("mean") == 0.3

    @pytest.mark.parametrize("use", ["get", "lookup"])
    def test_where_there_are_no_others_it_is_said_what_to_do(self, registry, use):
        for _ in range(2):
            registry.put(profile(), candidate=True)
        said = r"no active profile for m / t .*it has only candidates \(versions 1, 2\): promote one"
        if use == "get":
            with pytest.raises(ProfileNotFound, match=said):
                registry.get(KEY)
        else:
            found = registry.lookup(KEY)
            assert found.profile is None
            assert "it has only candidates (versions 1, 2): promote one" in found.problem


class TestPromote:
    def test_makes_a_version_the_answer_everywhere(self, three, url):
        three.lookup(KEY)
        three.promote(KEY, 3)
        assert active(three) == three.lookup(KEY).profile.version == 3
        assert [one.version for one in three.list()] == [3]
        with CalibrationRegistry(url) as another:
            assert another.lookup(KEY).profile.version == 3

    def test_a_version_that_is_not_there_is_refused_with_those_that_are(self, three):
        with pytest.raises(ProfileNotFound, match=r"no version 4 of a profile for m / t .*; it has versions 1, 2, 3"):
            three.promote(KEY, 4)
        assert active(three) == 2

    def test_a_key_that_is_not_there_is_refused(self, registry):
        with pytest.raises(ProfileNotFound, match="no profile for m / t"):
            registry.promote(KEY, 1)

    def test_replaces_only_what_the_caller_has_seen(self, three):
        three.promote(KEY, 3, replacing=2)
        with pytest.raises(
            StalePromotion, match=r"version 2 of m / t .* was to be replaced, and version 3 is active"
        ):
            three.promote(KEY, 1, replacing=2)
        assert active(three) == 3

    def test_none_active_is_seen_as_0(self, registry):
        for _ in range(2):
            registry.put(profile(), candidate=True)
        with pytest.raises(StalePromotion, match="none is active"):
            registry.promote(KEY, 2, replacing=1)
        registry.promote(KEY, 1, replacing=0)
        with pytest.raises(StalePromotion, match="version 1 is active"):
            registry.promote(KEY, 2, replacing=0)

    def test_is_written_down(self, three):
        three.promote(KEY, 3, by="bob")
        log = three.promotions(KEY)
        assert [(one.from_version, one.to_version, one.action, one.by) for one in log] == [
            (None, 1, "put", "ana"),
            (1, 2, "put", "ana"),
            (2, 3, "promote", "bob"),
        ]
        assert [one.at for one in log] == sorted(one.at for one in log)

    def test_of_what_is_active_changes_nothing(self, three):
        three.promote(KEY, 2)
        assert len(three.promotions(KEY)) == 2

    def test_of_what_cannot_be_read_is_refused(self, tmp_path):
        registry = CalibrationRegistry(f"sqlite:///{tmp_path}/tje.db")
        registry.put(profile())
        registry.put(profile())
        with sqlite3.connect(tmp_path / "tje.db") as connection:
            connection.execute("update tje_profiles set body = '{' where version = 1")
        connection.close()
        for change in (lambda: registry.promote(KEY, 1), lambda: registry.rollback(KEY)):
            with pytest.raises(RegistryDamaged, match="version 1 of"):
                change()
        assert active(registry) == 2


class TestRollback:
    def test_goes_back_along_what_was_active(self, three):
        three.promote(KEY, 3)
        three.promote(KEY, 1)
        assert [three.rollback(KEY), three.rollback(KEY)] == [3, 2]
        assert active(three) == three.lookup(KEY).profile.version == 2

    def test_after_a_rollback_a_new_promotion_goes_back_to_what_it_replaced(self, three):
        three.promote(KEY, 3)
        three.rollback(KEY)  # to 2
        three.promote(KEY, 1)
        assert [three.rollback(KEY), three.rollback(KEY)] == [2, 1]

    def test_passes_over_candidates_that_were_never_active(self, registry):
        registry.put(profile())
        registry.put(profile(), candidate=True)
        registry.put(profile())
        assert registry.rollback(KEY) == 1

    def test_is_written_down(self, three):
        three.rollback(KEY, by="bob")
        last = three.promotions(KEY)[-1]
        assert (last.from_version, last.to_version, last.action, last.by) == (2, 1, "rollback", "bob")

    def test_without_an_earlier_one_says_so(self, three):
        three.rollback(KEY)
        with pytest.raises(
            RegistryError,
            match=r"nothing to go back to for m / t .*nothing is further back than version 1; "
            r"it has versions 1, 2, 3: promote one",
        ):
            three.rollback(KEY)
        assert active(three) == 1

    def test_where_no_version_was_active_says_so(self, registry):
        registry.put(profile(), candidate=True)
        with pytest.raises(RegistryError, match="no version was active; it has version 1: promote one"):
            registry.rollback(KEY)

    def test_of_a_key_that_is_not_there_is_refused(self, registry):
        with pytest.raises(ProfileNotFound, match="no profile for m / t"):
            registry.rollback(KEY)

    def test_replaces_only_what_the_caller_has_seen(self, three):
        with pytest.raises(StalePromotion, match="version 2 is active"):
            three.rollback(KEY, replacing=3)
        assert three.rollback(KEY, replacing=2) == 1

    def test_never_goes_back_to_what_was_deleted(self, three):
        three.delete(KEY)
        assert three.put(profile()) == 4
        with pytest.raises(RegistryError, match="nothing to go back to"):
            three.rollback(KEY)
        three.put(profile())
        assert three.rollback(KEY) == 4


class TestDelete:
    def test_is_written_down_and_gives_no_number_again(self, three):
        three.lookup(KEY)
        assert three.delete(KEY, by="bob") == 3
        last = three.promotions(KEY)[-1]
        assert (last.from_version, last.to_version, last.action, last.by) == (2, None, "delete", "bob")
        assert three.lookup(KEY).profile is None
        assert three.put(profile()) == 4

    def test_leaves_other_keys_alone(self, three):
        other = ProfileKey(model="m2", task="t")
        three.put(profile(key=other))
        three.delete(KEY)
        assert three.get(other).version == 1
