"""The registry's doctor: is the database as the registry needs it, and what is to be done where it is not."""

from .examination import examine
from .finding import Finding, Status

__all__ = ["Finding", "Status", "examine"]
