"""Calibration records on disk: JSON Lines, plain or gzipped, and Parquet."""

from .reading import read_records
from .writing import write_records

__all__ = ["read_records", "write_records"]
