"""On PostgreSQL every change is told to whoever listens, when it is stored and not before."""

from __future__ import annotations

import io

import psycopg
import pytest

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileNotFound
from tje_middleware.calibration.profile import Alarm
from tje_middleware.storage.postgres import CHANNEL


@pytest.fixture
def server_url(postgres):
    return postgres.url()


@pytest.fixture
def filled(server_url):
    with CalibrationRegistry(server_url) as registry:
        for _ in range(2):
            registry.put(profile())
        registry.alias("a", "m")
        registry.store_alarm(KEY, Alarm("drift", "shifted", version=2))
        yield registry


def told(url, change):
    """How often a listener was told of something."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        change()
        listener.execute("SELECT 1")
        return len(list(listener.notifies(timeout=0.1)))


def imported(registry):
    stream = io.BytesIO()
    registry.export_to(stream)
    registry.delete(KEY)
    return lambda: registry.import_from(io.BytesIO(stream.getvalue()))


@pytest.mark.parametrize(
    "change",
    [
        lambda registry: lambda: registry.put(profile()),
        lambda registry: lambda: registry.promote(KEY, 1),
        lambda registry: lambda: registry.rollback(KEY),
        lambda registry: lambda: registry.delete(KEY),
        lambda registry: lambda: registry.alias("b", "m"),
        lambda registry: lambda: registry.unalias("a"),
        lambda registry: lambda: registry.store_alarm(KEY, Alarm("risk", "too many wrong", version=2)),
        lambda registry: lambda: registry.dismiss(KEY),
        imported,
    ],
    ids=["put", "promote", "rollback", "delete", "alias", "unalias", "alarm", "dismiss", "import"],
)
def test_a_change_is_told_once(server_url, filled, change):
    assert told(server_url, change(filled)) == 1


def test_what_was_refused_or_only_read_is_not_told(server_url, filled):
    def refused():
        filled.get(KEY)
        with pytest.raises(ProfileNotFound):
            filled.promote(KEY, 9)

    assert told(server_url, refused) == 0
