"""The database of the registry and the ledger: a SQLite file, or PostgreSQL."""

from .database import Database, Read
from .schema import HEAD
from .url import DatabaseUrl

__all__ = ["HEAD", "Database", "DatabaseUrl", "Read"]
