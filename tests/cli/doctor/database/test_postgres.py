"""What the doctor says of a PostgreSQL server and the way to it, on a real one."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from tests.cli.doctor.database.findings import found, not_ok
from tests.cli.doctor.database.proxy import Proxy
from tests.postgres import PASSWORD, ROLE
from tests.samples import profile
from tje_middleware import CalibrationRegistry
from tje_middleware.cli.doctor.database import postgres as checks_of_a_server


@pytest.fixture
def url(postgres) -> str:
    """Of a registry with one profile, by TCP and with a password."""
    url = postgres.url_with_password()
    with CalibrationRegistry(url) as registry:
        registry.put(profile())
    return url


def as_superuser(postgres, url: str, *statements: str) -> None:
    """Change a database as its administrator would."""
    import psycopg  # noqa: PLC0415 (an extra)

    where = {"host": str(postgres.folder), "port": postgres.port, "user": "postgres"}
    with psycopg.connect(**where, dbname=make_url(url).database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def other_role(postgres, url):
    """The URL of a role that owns nothing."""
    postgres.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    yield make_url(url).set(username="reader").render_as_string(hide_password=False)
    as_superuser(postgres, url, "DROP OWNED BY reader")
    postgres.execute("DROP ROLE reader")


def test_nothing_is_wrong_with_a_registry_as_it_is_made(url):
    findings = found(url)
    assert not_ok(findings) == {}
    expected = {"reachable", "schema", "read", "write", "clock", "notify", "profiles", "ledger"}
    assert expected <= findings.keys()


def test_an_empty_database_has_no_tables_yet_and_may_be_migrated(postgres):
    assert not_ok(found(postgres.url())) == {"schema": "warn"}


def test_looking_leaves_no_table_and_no_row(postgres):
    empty = postgres.url()
    found(empty)
    with CalibrationRegistry(empty) as registry:
        assert registry.database.revision() is None
        registry.put(profile())
        found(registry)
        assert len(registry.list()) == 1


def test_a_server_that_does_not_answer_is_told_without_the_password(postgres):
    url = make_url(postgres.url_with_password()).set(port=1).render_as_string(hide_password=False)
    findings = found(url)
    assert not_ok(findings) == {"reachable": "fail"}
    assert list(findings) == ["reachable"]


def test_a_wrong_password_is_told_without_it(postgres):
    findings = found(postgres.url_with_password("Falsch-19c2"))
    assert not_ok(findings) == {"reachable": "fail"}
    assert "password" in findings["reachable"].found
    assert "Falsch-19c2" not in str(findings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"host": "no-such-host.invalid"}, "check the host"),
        ({"query": {"sslmod": "require"}}, "check what follows the ?"),
        ({"query": {"sslmode": "of a typo"}}, "check what follows the ?"),
        ({"query": {"connect_timeout": "soon"}}, "check what follows the ?"),
    ],
    ids=str,
)
def test_what_is_wrong_in_the_url_is_told_with_what_to_check(postgres, change, said):
    url = make_url(postgres.url_with_password()).set(**change).render_as_string(hide_password=False)
    findings = found(url)
    assert not_ok(findings) == {"reachable": "fail"}
    assert said in findings["reachable"].found


def test_a_role_that_may_do_nothing_is_told(other_role):
    findings = found(other_role)
    assert not_ok(findings) == {"schema": "fail"}
    assert "permission denied" in findings["schema"].found
    assert "grant it" in findings["schema"].found
    assert PASSWORD not in str(findings)


def test_a_role_that_may_only_read_is_told(postgres, url, other_role):
    as_superuser(postgres, url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    findings = found(other_role)
    assert not_ok(findings) == {"write": "fail"}
    assert "permission denied" in findings["write"].found


def test_a_role_that_may_not_use_a_sequence_is_told(postgres, url, other_role):
    as_superuser(postgres, url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader")
    assert not_ok(found(other_role)) == {"write": "fail"}
    as_superuser(postgres, url, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO reader")
    assert not_ok(found(other_role)) == {}


@pytest.mark.parametrize("right", ["UPDATE", "DELETE", "INSERT"])
def test_a_role_that_lacks_one_right_to_write_is_told(postgres, url, other_role, right):
    as_superuser(
        postgres,
        url,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO reader",
        f"REVOKE {right} ON tje_feedback FROM reader",
    )
    findings = found(other_role)
    assert not_ok(findings) == {"write": "fail"}
    assert "tje_feedback" in findings["write"].found


def test_a_migration_is_for_the_owner_of_the_tables(postgres, url, other_role):
    as_superuser(
        postgres,
        url,
        "UPDATE tje_alembic_version SET version_num = '0001'",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    refused = found(other_role)
    assert (refused["schema"].status, refused["migrate"].status) == ("fail", "fail")
    as_superuser(postgres, url, "GRANT CREATE ON SCHEMA public TO reader")
    not_owned = found(other_role)["migrate"]
    assert not_owned.status == "fail"
    assert "tje_profiles" in not_owned.found
    assert found(url)["migrate"].status == "ok"


def test_a_clock_that_is_behind_is_told(postgres, url):
    as_superuser(
        postgres,
        url,
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        "$$ SELECT pg_catalog.clock_timestamp() - interval '1 minute' $$",
        f"ALTER ROLE {ROLE} IN DATABASE {make_url(url).database} SET search_path = public, pg_catalog",
    )
    finding = found(url)["clock"]
    assert finding.status == "warn"
    assert "60.0" in finding.found
    assert "behind" in finding.found
    assert "NTP" in finding.remedy


def test_transactions_of_another_isolation_are_no_fault(postgres, url):
    """A registry asks for the one that it needs."""
    database = make_url(url).database
    as_superuser(postgres, url, f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    assert not_ok(found(url)) == {}


def test_transactions_that_are_read_only_by_default_are_no_fault(postgres, url):
    as_superuser(postgres, url, f"ALTER DATABASE {make_url(url).database} SET default_transaction_read_only = on")
    assert not_ok(found(url)) == {}


class TestNotifications:
    def test_that_a_proxy_passes_on_are_heard(self, postgres, url):
        with Proxy(postgres.port) as proxy:
            findings = found(proxy.of(url))
        assert not_ok(findings) == {}

    def test_that_a_proxy_keeps_are_told(self, postgres, url, monkeypatch):
        monkeypatch.setattr(checks_of_a_server, "_NOTIFY_SECONDS", 0.2)
        with Proxy(postgres.port, keeps_notifications=True) as proxy:
            findings = found(proxy.of(url))
        assert not_ok(findings) == {"notify": "warn"}
        assert "nothing was heard" in findings["notify"].found
        assert "pgbouncer" in findings["notify"].remedy

    def test_of_the_registry_itself_are_not_disturbed(self, postgres, url):
        import psycopg  # noqa: PLC0415 (an extra)

        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as listener:
            listener.execute("LISTEN tje_registry")
            found(url)
            assert list(listener.notifies(timeout=0.2)) == []
