"""Aliases: a name finds the profile of another model only where somebody has said so."""

from __future__ import annotations

import pytest

from tests.samples import KEY, profile
from tje_middleware import ProfileKey, ProfileNotFound, RegistryError

DATED = "gpt-4.1-mini-2025-04-14"
PLAIN = "gpt-4.1-mini"


def key(model, **settings):
    return ProfileKey(model=model, task="t", **settings)


@pytest.fixture
def declared(registry):
    registry.put(profile(0.1, key=key(PLAIN)))
    registry.alias(DATED, PLAIN)
    return registry


class TestFollowing:
    def test_a_declared_name_finds_the_profile_of_its_model(self, declared):
        assert declared.get(key(DATED)).key == key(PLAIN)
        assert declared.get(key(DATED), version=1).key == key(PLAIN)
        assert declared.lookup(key(DATED)).profile.key == key(PLAIN)

    def test_a_lookup_carries_the_names_of_the_model(self, declared):
        declared.alias("my-mini", PLAIN)
        declared.alias("other", "another model")
        for model in (PLAIN, DATED):
            assert declared.lookup(key(model)).names == {DATED, "my-mini"}

    def test_a_profile_of_its_own_wins(self, declared):
        declared.put(profile(0.9, key=key(DATED)))
        assert declared.get(key(DATED)).threshold("mean") == 0.9
        assert declared.lookup(key(DATED)).profile.threshold("mean") == 0.9

    def test_a_candidate_of_its_own_does_not_win_yet(self, declared):
        declared.put(profile(0.9, key=key(DATED)), candidate=True)
        assert declared.get(key(DATED)).key == key(PLAIN)

    def test_the_settings_still_count(self, declared):
        with pytest.raises(ProfileNotFound, match=f"'{DATED}' is an alias of '{PLAIN}'"):
            declared.get(key(DATED, temperature=0.7))

    def test_a_promotion_reaches_the_alias(self, declared):
        declared.lookup(key(DATED))
        declared.put(profile(0.2, key=key(PLAIN)))
        assert declared.lookup(key(DATED)).profile.version == 2

    def test_a_lookup_that_found_nothing_finds_it_when_the_alias_is_declared(self, registry):
        registry.put(profile(key=key(PLAIN)))
        assert registry.lookup(key(DATED)).profile is None
        registry.alias(DATED, PLAIN)
        assert registry.lookup(key(DATED)).profile.version == 1
        registry.unalias(DATED)
        assert registry.lookup(key(DATED)).profile is None

    @pytest.mark.parametrize(
        "change", [lambda r, k: r.promote(k, 1), lambda r, k: r.rollback(k), lambda r, k: r.delete(k)]
    )
    def test_changes_need_the_models_own_name(self, declared, change):
        with pytest.raises(ProfileNotFound, match=f"'{DATED}' is an alias of '{PLAIN}': name that model"):
            change(declared, key(DATED))


class TestNeverGuessed:
    @pytest.mark.parametrize(("asked", "stored"), [(DATED, PLAIN), (PLAIN, DATED), (f"openai/{PLAIN}", PLAIN)])
    def test_a_name_that_looks_like_another_is_not_taken_for_it_but_proposed(self, registry, asked, stored):
        registry.put(profile(key=key(stored)))
        with pytest.raises(ProfileNotFound, match=f"say so with tje registry alias {asked} {stored}$"):
            registry.get(key(asked))
        assert registry.lookup(key(asked)).profile is None

    def test_two_dates_are_two_models(self, registry):
        registry.put(profile(key=key("gpt-4o-2024-05-13")))
        with pytest.raises(ProfileNotFound) as missing:
            registry.get(key("gpt-4o-2024-08-06"))
        assert "alias" not in str(missing.value)

    def test_a_proposed_command_can_be_pasted(self, registry):
        registry.put(profile(key=key("my model; rm -rf")))
        with pytest.raises(ProfileNotFound, match=r"alias 'x/my model; rm -rf' 'my model; rm -rf'$"):
            registry.get(key("x/my model; rm -rf"))


class TestDeclaring:
    def test_aliases_are_listed_by_name(self, registry):
        registry.alias("b", "m")
        registry.alias("a", "m")
        assert list(registry.aliases().items()) == [("a", "m"), ("b", "m")]

    def test_saying_it_twice_is_saying_it_once(self, declared):
        declared.alias(DATED, PLAIN)
        assert declared.aliases() == {DATED: PLAIN}

    @pytest.mark.parametrize(
        ("name", "model", "said"),
        [
            ("x", "x", "cannot be an alias of itself"),
            (DATED, "another", f"is an alias of '{PLAIN}' already: unalias it"),
            ("x", DATED, f"is itself an alias, of '{PLAIN}'"),
            (PLAIN, "x", f"has an alias itself, '{DATED}'"),
            (PLAIN, DATED, "is itself an alias"),
            ("", "m", "the alias is empty"),
            ("a\0b", "m", "control character"),
            ("a", "m\x1b[2J", "control character"),
            ("a" * 2001, "m", "2,001 bytes"),
            ("a", "", "model's name is empty"),
            ("a", "\ud800", "no text that can be stored"),
        ],
    )
    def test_what_is_unclear_is_refused(self, declared, name, model, said):
        with pytest.raises(RegistryError, match=said):
            declared.alias(name, model)
        assert declared.aliases() == {DATED: PLAIN}

    def test_withdrawing_what_is_none_names_those_that_are(self, declared):
        with pytest.raises(RegistryError, match=f"'x' is no alias; there are {DATED}"):
            declared.unalias("x")

    def test_a_model_of_any_name_is_looked_up_without_raising(self, registry):
        registry.put(profile())
        assert registry.lookup(key("a\0b")).problem.endswith(
            "name the signal and the settings of the one that is meant"
        )
        assert KEY.task == "t"
