"""Alarms in the registry: about one version, shown until dismissed."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import update

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey, RegistryDamaged, RegistryError
from tje_middleware.calibration.profile import Alarm
from tje_middleware.registry.tables import ALARMS


def alarm(version=1, kind="drift", detail="shifted", **evidence):
    return Alarm(kind=kind, detail=detail, version=version, raised_by="host:1", evidence=evidence)


@pytest.fixture
def raised(registry):
    registry.put(profile())
    assert registry.store_alarm(KEY, alarm(psi=0.5))
    return registry


def test_a_lookup_shows_the_alarm_about_the_active_version_as_it_was_raised(registry, url):
    registry.put(profile())
    made = alarm(psi=0.5, ks=0.25)
    registry.store_alarm(KEY, made)
    assert registry.lookup(KEY).alarm == made
    with CalibrationRegistry(url) as another:
        assert another.lookup(KEY).alarm == made


def test_it_holds_until_somebody_dismisses_it(raised):
    assert raised.dismiss(KEY, by="ana") == 1
    assert raised.lookup(KEY).alarm is None
    assert list(raised.alarms()) == []
    (held,) = raised.alarms(dismissed=True)
    assert (held.key, held.dismissed_by, held.alarm.detail) == (KEY, "ana", "shifted")
    assert held.dismissed_at is not None
    assert raised.dismiss(KEY) == 0


def test_it_is_about_one_version(raised):
    raised.put(profile())
    assert raised.lookup(KEY).alarm is None
    raised.rollback(KEY)
    assert raised.lookup(KEY).alarm.version == 1
    assert [[one.kind for one in version.alarms] for version in raised.versions(KEY)] == [["drift"], []]


def test_of_several_the_newest_is_shown(raised):
    raised.store_alarm(KEY, alarm(kind="risk", detail="too many wrong"))
    assert raised.lookup(KEY).alarm.kind == "risk"
    assert [one.alarm.kind for one in raised.alarms(KEY)] == ["risk", "drift"]


def test_replicas_that_see_the_same_raise_it_once(raised):
    assert not raised.store_alarm(KEY, alarm(detail="shifted further"))
    assert len(raised.alarms(KEY)) == 1


def test_after_it_was_dismissed_it_can_be_raised_again(raised):
    raised.dismiss(KEY)
    assert raised.store_alarm(KEY, alarm())


def test_under_an_alias_it_is_about_the_models_profile(raised):
    raised.alias("n", "m")
    assert raised.store_alarm(ProfileKey(model="n", task="t"), alarm(kind="risk"))
    assert raised.lookup(KEY).alarm.kind == "risk"


@pytest.mark.parametrize(("version", "said"), [(None, "names no version"), (2, "no version 2")])
def test_about_no_version_that_there_is_it_is_refused(raised, version, said):
    with pytest.raises(RegistryError, match=said):
        raised.store_alarm(KEY, alarm(version))


def test_numbers_that_json_does_not_have_are_left_out(registry):
    registry.put(profile())
    registry.store_alarm(KEY, alarm(psi=math.inf, ks=0.5, p=math.nan))
    assert registry.lookup(KEY).alarm.evidence == {"ks": 0.5}


@pytest.mark.parametrize("evidence", ["{", "[0.5]", '{"ks": "much"}', "null", f'{{"ks": 1{"0" * 400}}}'])
def test_one_whose_evidence_is_damaged_is_named_and_can_be_dismissed(raised, evidence):
    with raised.database.writing() as connection:
        connection.execute(update(ALARMS).values(evidence=evidence))
    for read in (raised.alarms, lambda: raised.get(KEY), lambda: raised.versions(KEY)):
        with pytest.raises(RegistryDamaged, match=r"holds an alarm that cannot be read .*version 1 of .*dismiss"):
            read()
    assert raised.dismiss(KEY) == 1
    assert raised.get(KEY).version == 1


def test_it_goes_with_the_version(raised):
    raised.delete(KEY)
    assert list(raised.alarms(dismissed=True)) == []


def test_alarms_of_all_keys_are_listed_or_of_one(raised):
    other = ProfileKey(model="m2", task="t")
    raised.put(profile(key=other))
    raised.store_alarm(other, alarm())
    assert [one.key for one in raised.alarms()] == [other, KEY]
    assert [one.key for one in raised.alarms(KEY)] == [KEY]
