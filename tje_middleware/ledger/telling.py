"""Feedback that is stored at once, for whoever waits for it: a command."""

from __future__ import annotations

import copy
import logging
import time

from ..errors import RegistryError
from ..storage import Database
from .feedback import check_promises
from .patience import hurriable, waiting_at_most
from .store import Batch, store
from .tables import feedback, row_of

logger = logging.getLogger(__name__)

# Nobody tries again afterwards.
_SECONDS_OF_LOOK = 5.0


def tell(database: Database, decision_id: str, *, correct: bool | None, draft_correct: bool | None) -> None:
    """Store feedback, and hold it against what was promised of drafts; a warning tells where that is not possible.

    Raises:
        RegistryError: the database cannot be written; nothing is tried again.
        ValueError: nothing is said, or of nothing that is an id.
    """
    said = feedback(decision_id, time.time(), correct=correct, draft_correct=draft_correct)
    own = hurriable(copy.copy(database))
    try:
        if store(own, Batch(feedback=[row_of(said, texts=False)])).refused:
            raise RegistryError(f"{own.url}: the database does not take feedback about {decision_id!r}")
        _look(own, decision_id)
    finally:
        own.close()


def _look(database: Database, decision_id: str) -> None:
    try:
        with waiting_at_most(_SECONDS_OF_LOOK):
            check_promises(database, [decision_id])
    except RegistryError as error:
        # Nothing is lost: the next feedback is looked at together with this one.
        logger.warning("the feedback is stored, but not yet held against what was promised of drafts: %s", error)
