"""Calibration records on disk: JSON Lines, plain or gzipped, and Parquet."""

from .files import read_records, write_records

__all__ = ["read_records", "write_records"]
