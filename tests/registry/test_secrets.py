"""A password in a registry's URL appears nowhere: in no text of an object, error, traceback or log."""

from __future__ import annotations

import logging
import pickle
import re
import traceback

import pytest
from sqlalchemy import text

from tests.postgres import PASSWORD
from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, RegistryError, RegistryUnavailable
from tje_middleware.storage import Database

WRONG = "Falsch-1b2c3d"
SECRETS = re.compile(f"{PASSWORD}|{WRONG}|hunter2")


def refuse_secrets(*texts):
    for shown in texts:
        assert not SECRETS.search(shown), shown


def everything_of(error):
    """All that a traceback, a logger or a debugger would show of an error and its causes."""
    shown = ["".join(traceback.format_exception(type(error), error, error.__traceback__))]
    while error is not None:
        shown += [str(error), repr(error), repr(error.args)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return shown


@pytest.fixture(autouse=True)
def _all_logs(caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg", "alembic", "tje_middleware"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield
    refuse_secrets(caplog.text, *(repr(record.__dict__) for record in caplog.records))


USES = {
    "get": lambda registry: registry.get(KEY),
    "put": lambda registry: registry.put(profile()),
    "list": lambda registry: registry.list(),
    "promote": lambda registry: registry.promote(KEY, 1),
    "migrate": lambda registry: registry.database.migrate(),
    "revision": lambda registry: registry.database.revision(),
}
uses = pytest.mark.parametrize("use", USES.values(), ids=USES)


def failing(use, registry):
    with pytest.raises(RegistryError) as raised:
        use(registry)
    refuse_secrets(*everything_of(raised.value))
    found = registry.lookup(KEY)
    refuse_secrets(repr(found), str(found.problem))
    registry.close()
    return raised.value


def test_not_in_the_texts_of_objects(postgres):
    url = postgres.url_with_password()
    registry = CalibrationRegistry(url)
    database = Database(url)
    registry.put(profile())
    shown = (registry, database, database.url, database.engine, database.engine.url, registry.get(KEY))
    refuse_secrets(*(form(one) for one in shown for form in (repr, str, "{}".format)), registry.url)
    copied = pickle.loads(pickle.dumps(registry))
    assert copied.get(KEY).version == 1
    refuse_secrets(repr(copied), str(copied))
    registry.close()
    copied.close()


@uses
def test_not_when_it_is_wrong(postgres, use):
    error = failing(use, CalibrationRegistry(postgres.url_with_password(WRONG)))
    assert isinstance(error, RegistryUnavailable)
    assert "check the user and its password" in str(error)


@uses
def test_not_when_nobody_answers(use):
    error = failing(use, CalibrationRegistry("postgresql+psycopg://tje:hunter2@127.0.0.1:1/tje"))
    assert isinstance(error, RegistryUnavailable)
    assert "postgresql+psycopg://tje:***@127.0.0.1:1/tje" in str(error)


@uses
@pytest.mark.parametrize("query", ["password=hunter2", "sslpassword=hunter2&sslmode=disable"])
def test_not_when_it_is_in_the_query(use, query):
    failing(use, CalibrationRegistry(f"postgresql+psycopg://tje@127.0.0.1:1/tje?{query}"))


def test_not_when_the_host_is_not_known():
    failing(USES["get"], CalibrationRegistry("postgresql+psycopg://tje:hunter2@no-such-host.invalid/tje"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@host:port/tje",
        "postgresql+psycopg://u:hun%zzter2:hunter2@host:1:2/tje",
        "postgresql+psycopg://u:hunter2@x@host/tje",
        "mysql://u:hunter2@host/tje",
        "u:hunter2@host/tje",
        "://u:hunter2@host",
        "sqlite://u:hunter2@host/",
        "postgresql+psycopg://u@host/tje?password=hunter2&port=x",
        "postgres//u:hunter2@host/tje",
        "postgresql//u:x hunter2@host/tje?sslmode=x",
    ],
)
def test_not_when_the_url_is_none(url):
    try:
        CalibrationRegistry(url).get(KEY)
    except RegistryError as error:
        refuse_secrets(*everything_of(error))
    else:
        pytest.fail("it was taken for a registry")


def test_not_when_a_statement_fails(postgres):
    url = postgres.url_with_password()
    with CalibrationRegistry(url) as registry:
        registry.put(profile())
        for statement in ("SELECT 1 / 0", "SELECT * FROM nothing", "CREATE ROLE other"):
            with pytest.raises(RegistryError) as raised, registry.database.writing() as connection:
                connection.execute(text(statement))
            refuse_secrets(*everything_of(raised.value))


def test_not_in_an_export(postgres, tmp_path):
    with CalibrationRegistry(postgres.url_with_password()) as registry:
        registry.put(profile())
        registry.export_to(tmp_path / "export.jsonl")
    refuse_secrets((tmp_path / "export.jsonl").read_text())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u@server:hunter2@127.0.0.1:1/tje",
        "postgresql://u:x hunter2@127.0.0.1:1/tje",
        "postgresql://u#v:hunter2@127.0.0.1:1/tje",
        "postgresql://127.0.0.1:1/tje?password=x#hunter2",
        "postgresql://127.0.0.1:1/tje?password=x hunter2",
        "postgresql://127.0.0.1:1/tje?pas%73word=hunter2",
    ],
)
def test_nor_where_it_is_an_odd_one(url, caplog):
    caplog.set_level("DEBUG")
    registry = CalibrationRegistry(url)
    with pytest.raises(RegistryUnavailable) as caught:
        registry.list()
    registry.lookup(KEY)
    registry.close()
    said = [repr(registry), registry.url, str(caught.value), caplog.text, *traceback.format_exception(caught.value)]
    assert not [text for text in said if "hunter2" in text]
