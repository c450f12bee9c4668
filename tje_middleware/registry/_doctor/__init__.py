"""The registry's doctor: is the database as the registry needs it, and what is to be done where it is not."""

from ._examination import examine
from ._finding import Finding, Status

__all__ = ["Finding", "Status", "examine"]
