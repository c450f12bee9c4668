"""Processes that share a registry: nothing is lost, nothing doubled, and nothing seen by halves."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry

_START = """
import sys
from tje_middleware import CalibrationProfile, CalibrationRegistry
from tje_middleware.errors import StalePromotion
registry = CalibrationRegistry(sys.argv[1])
profile = CalibrationProfile.model_validate_json(sys.argv[2])
key = profile.key
print("ready", flush=True)
sys.stdin.readline()
"""
_PUT_250 = "print(*(registry.put(profile) for _ in range(250)))"
_PROMOTE_2 = """
try:
    registry.promote(key, int(sys.argv[3]), replacing=1)
    print("won")
except StalePromotion:
    print("stale")
"""
_CHANGE_ON_AND_ON = """
registry.put(profile)
for turn in range(1_000_000):
    version = registry.put(profile, candidate=turn % 2 == 1)
    registry.promote(key, version)
    registry.rollback(key)
"""
_PROMOTE_ON_AND_ON = """
for turn in range(1_000_000):
    registry.promote(key, 1 + turn % 2)
"""


@contextmanager
def processes(script, url, arguments):
    """Processes that run a script on a registry, all let go at once."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", _START + script, url, profile().model_dump_json()]
    started = [subprocess.Popen([*command, str(one)], **pipes) for one in arguments]
    try:
        for one in started:
            assert one.stdout.readline() == "ready\n", one.stderr.read()
        for one in started:
            one.stdin.write("go\n")
            one.stdin.flush()
        yield started
    finally:
        for one in started:
            one.kill()
            one.communicate()


def said(started):
    """What each process printed, all having ended well."""
    outcomes = [one.communicate(timeout=240) for one in started]
    assert [(one.returncode, error) for one, (_, error) in zip(started, outcomes, strict=True)] == [(0, "")] * len(
        started
    )
    return [printed.split() for printed, _ in outcomes]


def test_eight_that_put_250_times_lose_none_and_double_none(url):
    with processes(_PUT_250, url, range(8)) as started:
        versions = [[int(version) for version in printed] for printed in said(started)]
    assert all(own == sorted(own) for own in versions)
    assert sorted(version for own in versions for version in own) == list(range(1, 2001))
    with CalibrationRegistry(url) as registry:
        assert [one.version for one in registry.history(KEY)] == list(range(1, 2001))
        assert registry.get(KEY).version == 2000
        assert [one.to_version for one in registry.promotions(KEY)] == list(range(1, 2001))


def test_of_many_that_promote_at_once_one_wins(url):
    with CalibrationRegistry(url) as registry:
        for candidate in [False] + [True] * 6:
            registry.put(profile(), candidate=candidate)
        with processes(_PROMOTE_2, url, range(2, 8)) as started:
            outcomes = [printed[0] for printed in said(started)]
        assert sorted(outcomes) == ["stale"] * 5 + ["won"]
        assert registry.get(KEY).version == 2 + outcomes.index("won")
        assert len(registry.promotions(KEY)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL here")
def test_one_that_is_killed_at_any_moment_leaves_everything_whole(url):
    chance = random.Random(0)
    whole = profile().model_copy(update={"created_at": None})
    for _ in range(12):
        with processes(_CHANGE_ON_AND_ON, url, [0]) as (victim,):
            time.sleep(chance.uniform(0.0, 0.3))
            victim.send_signal(signal.SIGKILL)
            _, error = victim.communicate(timeout=60)
        assert (victim.returncode, error) == (-signal.SIGKILL, "")
        with CalibrationRegistry(url) as registry:
            versions = registry.versions(KEY)
            assert [one.version for one in versions] == list(range(1, len(versions) + 1))
            assert all(
                one.profile.model_copy(update={"created_at": None, "version": None}) == whole for one in versions
            )
            log = registry.promotions(KEY)
            assert [one.from_version for one in log] == [None, *(one.to_version for one in log)][: len(log)]
            if log:
                assert registry.get(KEY).version == log[-1].to_version
            after = registry.put(profile())
            assert after == len(versions) + 1


def test_a_promotion_is_seen_whole_or_not_at_all(url):
    with CalibrationRegistry(url) as registry:
        registry.put(profile(0.1))
        registry.put(profile(0.2))
        seen = set()
        with processes(_PROMOTE_ON_AND_ON, url, [0]) as (promoter,):
            for _ in range(200):
                found = registry.get(KEY)
                seen.add((found.version, found.threshold("mean")))
                assert [one.is_active for one in registry.versions(KEY)].count(True) == 1
                (listed,) = registry.list()
                assert (listed.version, listed.threshold("mean")) in {(1, 0.1), (2, 0.2)}
            assert promoter.poll() is None
        assert seen == {(1, 0.1), (2, 0.2)}
