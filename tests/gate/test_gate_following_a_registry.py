"""A gate that follows the newest profile of a registry: without one, with a new one, with the registry gone."""

from __future__ import annotations

import json
import pickle
import sqlite3
import warnings
from contextlib import closing
from copy import deepcopy

import pytest

from tests.samples import KEY, draft, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, EntropyGate, GateError, ProfileKey, Route, SignalError, TjeWarning


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tje.db"


def registry_at(path, **options):
    return CalibrationRegistry(f"sqlite:///{path}", **options)


def gate_on(registry, **policies):
    return EntropyGate.from_registry(registry, model="m", task="t", **policies)


def break_file(path):
    path.write_bytes(b"this was a database" * 100)


class TestWithoutAProfile:
    def test_a_gate_is_made_all_the_same(self, path):
        gate = gate_on(registry_at(path))
        assert gate.key == KEY
        assert not path.exists()

    def test_drafts_cannot_be_judged_and_it_is_said_once(self, path):
        gate = gate_on(registry_at(path))
        with pytest.warns(TjeWarning, match=r"no profile for m / t .*calibrate and put"):
            decision = gate.decide(draft(0.1))
        assert (decision.route, decision.reason) == (Route.DEEPER, "no_profile")
        assert json.loads(json.dumps(decision.as_dict()))["threshold"] is None
        assert gate.decide(draft(0.1)) == decision

    def test_on_missing_raise_raises_at_the_decision_and_not_before(self, path):
        gate = gate_on(registry_at(path), on_missing="raise")
        with pytest.raises(GateError, match="no profile"):
            gate.decide(draft(0.1))

    def test_a_registry_that_was_never_reached_is_as_no_profile(self):
        gate = gate_on(registry_at("/no/such/folder/tje.db"))
        with pytest.warns(TjeWarning, match="unable to open"):
            assert gate.decide(draft(0.1)).reason == "no_profile"

    def test_a_damaged_registry_is_as_no_profile(self, path):
        break_file(path)
        with pytest.warns(TjeWarning, match="not a database"):
            assert gate_on(registry_at(path)).decide(draft(0.1)).reason == "no_profile"

    def test_the_first_profile_is_picked_up_within_seconds(self, path, monkeypatch):
        monkeypatch.setattr("tje_middleware.registry.refresh.RETRY_SECONDS", 0.05)
        gate = gate_on(registry_at(path))
        with pytest.warns(TjeWarning):
            gate.decide(draft(0.1))
        registry_at(path).put(profile(0.5))
        wait_until(lambda: gate.decide(draft(0.1)).accepted)

    def test_a_profile_put_by_this_registry_is_picked_up_at_once(self, path):
        registry = registry_at(path)
        gate = gate_on(registry)
        with pytest.warns(TjeWarning):
            gate.decide(draft(0.1))
        registry.put(profile(0.5))
        assert gate.decide(draft(0.1)).accepted

    def test_a_missing_profile_is_not_looked_for_at_every_decision(self, path):
        registry = registry_at(path)
        registry.put(profile(0.5, key=ProfileKey(model="m", task="another")))
        gate = gate_on(registry)
        with pytest.warns(TjeWarning):
            gate.decide(draft(0.1))
        path.write_bytes(b"nobody looks here")
        assert "has no profile" in gate.decide(draft(0.1)).detail

    def test_a_locked_database_holds_no_decision_up(self, path):
        registry_at(path).put(profile(0.5))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.warns(TjeWarning, match="locked"):
                assert gate_on(registry_at(path)).decide(draft(0.1)).reason == "no_profile"


class TestElsewhere:
    def test_a_gate_goes_to_another_process_and_back(self, path):
        registry = registry_at(path)
        registry.put(profile(0.5))
        for gate in (gate_on(registry), EntropyGate(profile(0.5))):
            for copy in (pickle.loads(pickle.dumps(gate)), deepcopy(gate)):
                assert copy.decide(draft(0.1)).accepted
                assert not copy.decide(draft(0.9)).accepted


class TestConstruction:
    @pytest.mark.parametrize("policy", [{"on_missing": "accept"}, {"on_unusable": "ignore"}, {"min_tokens": 0}])
    def test_a_wrong_policy_is_refused(self, path, policy):
        with pytest.raises(ValueError, match=next(iter(policy))):
            gate_on(registry_at(path), **policy)

    def test_an_unknown_signal_is_refused(self, path):
        with pytest.raises(SignalError, match="mood"):
            gate_on(registry_at(path), signal="mood")

    def test_a_method_that_the_profile_lacks_is_named_with_those_that_it_has(self, path):
        known = profile()
        without = {name: threshold for name, threshold in known.thresholds.items() if name != "risk"}
        registry_at(path).put(known.model_copy(update={"thresholds": without}))
        with pytest.warns(TjeWarning, match=r"no method 'risk'.*mean, info, bayes, universal"):
            decision = gate_on(registry_at(path), method="risk").decide(draft(0.1))
        assert (decision.route, decision.reason) == (Route.DEEPER, "unusable_profile")


class TestANewProfile:
    def test_is_used_after_refresh_seconds_and_not_before(self, path):
        other_process = registry_at(path)
        other_process.put(profile(0.5))
        slow, quick = gate_on(registry_at(path)), gate_on(registry_at(path, refresh_seconds=0.05))
        assert slow.decide(draft(1.0)).profile_version == quick.decide(draft(1.0)).profile_version == 1
        other_process.put(profile(2.0))
        wait_until(lambda: quick.decide(draft(1.0)).profile_version == 2)
        assert quick.decide(draft(1.0)).accepted
        assert slow.decide(draft(1.0)).profile_version == 1

    def test_put_through_the_same_registry_is_used_at_once(self, path):
        registry = registry_at(path)
        registry.put(profile(0.5))
        gate = gate_on(registry)
        assert not gate.decide(draft(1.0)).accepted
        registry.put(profile(2.0))
        assert gate.decide(draft(1.0)).accepted

    def test_of_other_settings_is_another_key(self, path):
        registry_at(path).put(profile(0.5))
        with pytest.warns(TjeWarning, match="no profile"):
            gate_on(registry_at(path), temperature=0.7).decide(draft(0.1))

    def test_that_turned_unusable_accepts_nothing_more(self, path):
        registry = registry_at(path)
        registry.put(profile(0.5))
        gate = gate_on(registry)
        assert gate.decide(draft(0.1)).accepted
        registry.put(profile(0.5, verdict="unusable"))
        with pytest.warns(TjeWarning, match="unusable"):
            assert gate.decide(draft(0.1)).route is Route.DEEPER


class TestARegistryThatGoesAway:
    @pytest.fixture
    def followed(self, path):
        """A registry whose profile of threshold 0.5 has been seen, and is read again and again."""
        registry_at(path).put(profile(0.5))
        with registry_at(path, refresh_seconds=0.05) as registry:
            registry.lookup(KEY)
            yield registry

    @pytest.mark.parametrize("ruin", [break_file, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
    def test_leaves_the_last_profile_seen_marked_stale(self, path, followed, ruin):
        gate = gate_on(followed)
        assert not gate.decide(draft(0.1)).stale
        ruin(path)
        wait_until(lambda: followed.lookup(KEY).stale)
        with pytest.warns(TjeWarning, match="the last profile seen serves"):
            decision = gate.decide(draft(0.1))
        assert (decision.route, decision.stale, decision.profile_version) == (Route.FINAL, True, 1)

    def test_is_said_once(self, path, followed):
        gate = gate_on(followed)
        break_file(path)
        wait_until(lambda: followed.lookup(KEY).stale)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert all(gate.decide(draft(0.1)).stale for _ in range(5))
        assert len([one for one in caught if one.category is TjeWarning]) == 1

    def test_and_comes_back_is_followed_again(self, path, followed):
        gate = gate_on(followed)
        kept = path.read_bytes()
        break_file(path)
        wait_until(lambda: followed.lookup(KEY).stale)
        with pytest.warns(TjeWarning):
            gate.decide(draft(0.1))
        path.write_bytes(kept)
        registry_at(path).put(profile(0.6))
        wait_until(lambda: followed.lookup(KEY).profile.version == 2)
        decision = gate.decide(draft(0.1))
        assert (decision.stale, decision.profile_version) == (False, 2)

    def test_deleting_the_profile_on_purpose_is_no_outage(self, path, followed):
        gate = gate_on(followed)
        assert gate.decide(draft(0.1)).accepted
        registry_at(path).delete(KEY)
        wait_until(lambda: followed.lookup(KEY).profile is None)
        with pytest.warns(TjeWarning, match="no profile"):
            assert gate.decide(draft(0.1)).reason == "no_profile"
