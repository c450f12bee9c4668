"""What is known in memory: readings that overtake each other, failures, and alarms that were just raised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.samples import KEY, profile
from tje_middleware import ProfileKey
from tje_middleware.calibration.profile import Alarm
from tje_middleware.gate.sources import ProfileLookup
from tje_middleware.registry.known import Known

OTHER = ProfileKey(model="m2", task="t")
ALARM = Alarm("drift", "the drafts are others", version=1)
_PROFILES = [profile(version=version) for version in range(1, 8)]


def found(version):
    return ProfileLookup(_PROFILES[version - 1])


def attended():
    known = Known()
    known.attend(60.0)
    return known


class TestReadings:
    @given(st.permutations(range(6)))
    def test_that_overtake_each_other_leave_the_one_that_began_last(self, landing):
        known = attended()
        orders = [known.begin() for _ in range(6)]
        for number in landing:
            known.keep(orders[number], {KEY: found(number + 1)})
        assert known.answers[KEY].profile.version == 6

    @given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
    def test_that_fail_count_as_much_as_those_that_do_not(self, landing, failing):
        known = attended()
        known.keep(known.begin(), {KEY: found(7)})
        orders = [known.begin() for _ in range(6)]
        for number in landing:
            if number in failing:
                known.fail(orders[number], "down")
            else:
                known.keep(orders[number], {KEY: found(number + 1)})
        assert known.answers[KEY].stale == (5 in failing)
        assert known.answers[KEY].profile is not None

    def test_a_reading_that_succeeds_late_is_no_failure_any_more(self):
        known = attended()
        known.keep(known.begin(), {KEY: found(1)})
        order = known.begin()
        known.fail(order, "it takes long")
        known.keep(order, {KEY: found(2)})
        assert known.answers[KEY] == found(2)

    def test_a_failure_leaves_what_there_is_not_as_missing(self):
        known = attended()
        known.keep(known.begin(), {KEY: ProfileLookup(None, problem="none"), OTHER: found(1)})
        known.fail(known.begin(), "down")
        assert known.answers[KEY] == ProfileLookup(None, stale=False, problem="down")
        assert known.answers[OTHER] == ProfileLookup(found(1).profile, stale=True, problem="down")

    def test_what_was_not_yet_there_gives_way_to_any_reading(self):
        known = attended()
        order = known.begin()
        assert known.not_yet(KEY, "wait").problem == "wait"
        known.keep(order, {KEY: found(1)})
        assert known.not_yet(KEY, "wait") == known.answers[KEY] == found(1)


class TestAttention:
    def test_what_nobody_keeps_fresh_is_remembered_but_not_answered_with(self):
        known = attended()
        known.keep(known.begin(), {KEY: found(1)})
        known.leave()
        assert known.answers == {}
        known.attend(60.0)
        assert known.answers == {KEY: found(1)}

    def test_what_got_too_old_meanwhile_is_asked_for_anew(self):
        known = attended()
        known.keep(known.begin(), {KEY: found(1)})
        known.leave()
        known.attend(-1.0)
        assert known.answers == {}
        assert known.not_yet(KEY, "wait") == ProfileLookup(found(1).profile, stale=True, problem="wait")

    def test_an_answer_that_nobody_read_is_not_taken_up_again(self):
        known = attended()
        known.not_yet(KEY, "wait")
        known.leave()
        known.attend(60.0)
        assert known.answers == {}


class TestAlarms:
    def test_show_at_once_and_in_readings_that_began_before_they_were_stored(self):
        known = attended()
        known.keep(known.begin(), {KEY: found(1)})
        known.report(KEY, ALARM)
        assert known.answers[KEY].alarm == ALARM
        early = known.begin()
        known.stored(KEY, ALARM)
        known.keep(early, {KEY: found(1)})
        assert known.answers[KEY].alarm == ALARM

    def test_are_gone_when_a_later_reading_has_none(self):
        known = attended()
        known.keep(known.begin(), {KEY: found(1)})
        known.report(KEY, ALARM)
        known.stored(KEY, ALARM)
        known.keep(known.begin(), {KEY: found(1)})
        assert known.answers[KEY].alarm is None

    def test_are_about_their_version_alone(self):
        known = attended()
        known.keep(known.begin(), {KEY: found(2)})
        known.report(KEY, ALARM)
        assert known.answers[KEY].alarm is None
        known.keep(known.begin(), {KEY: found(1)})
        assert known.answers[KEY].alarm == ALARM

    def test_show_under_an_alias_too(self):
        known = attended()
        known.keep(known.begin(), {OTHER: found(1)})
        known.report(KEY, ALARM)
        assert known.answers[OTHER].alarm == ALARM


def test_a_change_of_a_key_touches_its_aliases_and_what_may_be_one():
    known = attended()
    missing, another_task = ProfileKey(model="m3", task="t"), ProfileKey(model="m", task="t3")
    known.keep(known.begin(), {OTHER: found(1), missing: ProfileLookup(None), another_task: ProfileLookup(None)})
    assert set(known.touched_by(KEY)) == {KEY, OTHER, missing}
    assert known.touched_by(OTHER) == [OTHER, missing]
