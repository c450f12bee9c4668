"""The registry's doctor: is the database as the registry needs it, and what is to be done where it is not."""

from .checks import examine

__all__ = ["examine"]
