"""What workflows raise to steer themselves, which is no failure of a branch."""

from __future__ import annotations

import sys


def is_control_flow(error: Exception) -> bool:
    """Whether a workflow waits for an event, to run its step again when that has come, or was cancelled."""
    # Where these were never imported, nothing can have raised them; the first is newer than the oldest release.
    results, errors = sys.modules.get("workflows.runtime.types.results"), sys.modules.get("workflows.errors")
    kinds = (getattr(results, "WaitingForEvent", None), getattr(errors, "WorkflowCancelledByUser", None))
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))
