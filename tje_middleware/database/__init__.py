"""The database under the registry and the ledger: a SQLite file, or PostgreSQL."""

from ._database import Database, Read
from ._url import DatabaseUrl
from .schema import HEAD

__all__ = ["HEAD", "Database", "DatabaseUrl", "Read"]
