"""Feedback that is stored at once, for whoever waits for it: a command."""

from __future__ import annotations

import copy
import time

from ..database import Database
from ..errors import RegistryError
from ._entries import feedback_row, judged
from ._looking import Looking
from ._patience import hurriable
from ._promises import check_promises
from ._storing import Batch, store


def tell(database: Database, decision_id: str, *, correct: bool | None, draft_correct: bool | None) -> None:
    """Store feedback, and look at what it says of the gate's promises.

    Raises:
        RegistryError: the database cannot be written; nothing is tried again.
        ValueError: nothing is said, or of nothing that is an id.
    """
    row = feedback_row(judged(decision_id, time.time(), correct=correct, draft_correct=draft_correct))
    own = hurriable(copy.copy(database))
    try:
        if store(own, Batch(feedback=[row])).refused:
            raise RegistryError(f"{own.url}: the database does not take feedback about {decision_id!r}")
        looking = Looking(check_promises)
        looking.add([decision_id])
        looking.look(own)
    finally:
        own.close()
