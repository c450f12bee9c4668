"""Migrating a database: finding out the migration that it is at, and upgrading it to the last one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from ..errors import RegistryDamaged, SchemaMismatch
from .schema import HEAD, PREFIX, VERSION_TABLE
from .url import DatabaseUrl

_MIGRATIONS = Path(__file__).parent / "migrations"
# Databases of releases before the first migration do not record which migration they are at.
_UNSTAMPED = "0001"
_UNSTAMPED_TABLE = "tje_profiles"
_UNSTAMPED_COLUMNS = {"key", "version", "body"}


def revision_of(connection: Connection, url: DatabaseUrl) -> str | None:
    """The migration that a database is at; None for one without our tables.

    Raises:
        RegistryDamaged: another application's table has the name of one of ours.
    """
    found = inspect(connection)
    if found.has_table(VERSION_TABLE):
        revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        if revision is not None:
            return str(revision)
    if not found.has_table(_UNSTAMPED_TABLE):
        return None
    if {column["name"] for column in found.get_columns(_UNSTAMPED_TABLE)} != _UNSTAMPED_COLUMNS:
        raise RegistryDamaged(
            f"{url}: its table {_UNSTAMPED_TABLE} is not one of this library; nothing was written: "
            f"name another database"
        )
    return _UNSTAMPED


def is_still_at_head(connection: Connection) -> bool:
    """Whether a database that was at the last migration still is; cheap, as every reading checks it."""
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == HEAD


def require_head(url: DatabaseUrl, revision: str) -> None:
    """Refuse a schema that is not this release's.

    Raises:
        SchemaMismatch: older or newer; the message says what to do.
    """
    if revision == HEAD:
        return
    if revision in known_revisions():
        raise SchemaMismatch(
            f"{url} has the schema of an earlier release ({revision}, this one needs {HEAD}); nothing was changed: "
            f"run tje registry migrate --registry URL once, with every process that uses it stopped or upgraded"
        )
    raise SchemaMismatch(
        f"{url} has a schema that this release does not know ({revision}, this one needs {HEAD}): "
        f"upgrade tje-middleware to the release that made it"
    )


def refuse_another_database(connection: Connection, url: DatabaseUrl) -> None:
    """Refuse a file without our tables that holds other tables; an empty one becomes a registry."""
    others = [name for name in inspect(connection).get_table_names() if not name.startswith(PREFIX)]
    if others:
        raise RegistryDamaged(
            f"{url} is no registry but another application's database (its tables: "
            f"{', '.join(others[:3])}); nothing was written: name another file"
        )


def known_revisions() -> frozenset[str]:
    """All migrations of this release."""
    return frozenset(path.stem.split("_")[0].lstrip("r") for path in (_MIGRATIONS / "versions").glob("r[0-9]*.py"))


def upgrade(connection: Connection, url: DatabaseUrl) -> None:
    """Migrate a database to the last migration, within the transaction that the connection is in."""
    from alembic.operations import Operations  # noqa: PLC0415 (a tenth of a second, and hardly ever needed)
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(_MIGRATIONS))
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    # Not by alembic.command: its scripts find their connection in a module that all threads of a process share, so
    # two threads that migrate two databases at the same time could both write to one of them.
    operations = Operations(context)
    before = revision_of(connection, url)
    for script in reversed(list(scripts.iterate_revisions(HEAD, before or "base"))):
        script.module.upgrade(operations)
        context.stamp(scripts, script.revision)
