"""Behind pgbouncer, which gives each transaction whatever connection is free."""

import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.postgres import PASSWORD, ROLE, PostgresServer, free_port
from tests.samples import KEY, draft, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, DecisionLedger, EntropyGate, RegistryError
from tje_middleware.storage.postgres import postgres_engine
from tje_middleware.storage.url import DatabaseUrl

_SETTINGS = """
[databases]
* = host=127.0.0.1 port={server} user={role} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
"""


@pytest.fixture
def pooled(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory):
    """The URL of a database behind a pgbouncer of the test's own."""
    bouncer = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if bouncer is None:
        pytest.skip("pgbouncer is not installed")
    name = postgres.url_with_password().rpartition("/")[2]
    port = free_port()
    folder = tmp_path_factory.mktemp("pgbouncer")
    settings = folder / "pgbouncer.ini"
    settings.write_text(_SETTINGS.format(server=postgres.port, role=ROLE, password=PASSWORD, port=port))
    for each in (settings, folder, folder.parent, folder.parent.parent):  # it leaves the rights of root
        each.chmod(0o755)
    as_user = ["-u", "nobody"] if Path("/").owner() == Path.home().owner() else []
    running = subprocess.Popen([bouncer, "-q", *as_user, str(settings)])
    try:
        wait_until(lambda: _answers(port))
        yield f"postgresql+psycopg://{ROLE}@127.0.0.1:{port}/{name}"
    finally:
        running.terminate()
        running.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_all_that_is_put_at_once_is_stored(pooled: str) -> None:
    with CalibrationRegistry(pooled) as first, CalibrationRegistry(pooled) as second:
        with ThreadPoolExecutor(9) as pool:
            put = pool.map(lambda number: (first, second)[number % 2].put(profile(number / 100)), range(90))
            assert sorted(put) == [*range(1, 91)]
        assert first.get(KEY).version == 90


def test_decisions_are_written(pooled: str) -> None:
    with CalibrationRegistry(pooled) as registry, DecisionLedger(pooled) as ledger:
        registry.put(profile())
        gate = EntropyGate.from_registry(registry, model=KEY.model, task=KEY.task, ledger=ledger, on_drift="ignore")
        for _ in range(50):
            gate.decide(draft(0.2))
        assert ledger.flush()
        assert ledger.dropped == 0


@pytest.mark.parametrize("setting", ["-1", "soon", "1.5"])
def test_a_threshold_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(RegistryError, match="prepare_threshold must be a whole number of runs, or none"):
        postgres_engine(DatabaseUrl.parse(f"postgresql+psycopg://u@h/d?prepare_threshold={setting}"))
