"""DecisionLedger: records decisions and feedback in a database, and sums them up."""

from __future__ import annotations

import copy
import threading
import time
import weakref
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from typing_extensions import Self, Unpack

from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from ..errors import described
from ..gate.decision import GateDecision, new_decision_id
from ..gate.settlement import DecisionFacts
from ..storage import Database
from .feedback import check_promises
from .queries import Per, Range, Unattributed, holds, prune, unattributed
from .tables import SettledDecision, feedback, row_of
from .writer import LedgerCounts, Writer

if TYPE_CHECKING:
    from ..calibration.recalibration import LabelledDecision
    from .summary import DaySummary


_FACTS = DecisionFacts.__optional_keys__
_FACTS_IN_WORDS = ", ".join(sorted(_FACTS))


class _HoldsDatabase(Protocol):
    @property
    def database(self) -> Database: ...


class DecisionLedger:
    """Records decisions, off the hot path, and sums them up.

    A decision is put into a bounded queue, which takes microseconds, and written by a thread in batches. Where the
    queue is full the new decision is dropped, and none that waits. Drops are counted (:attr:`dropped`), logged and
    stored. While the database is down, waiting entries are kept and tried again. At the end of the process they are
    written, for at most 5 seconds; a process that is killed, or left by ``os._exit``, loses the entries of the last
    ``flush_seconds``.

    Feedback is compared with the promised share of wrong drafts (``risk_limit``); where more are wrong, an alarm
    about the profile is raised in the registry that shares the database, and in no other.

    Threads and event loops may share a ledger; a forked process begins with an empty queue, and a pickled ledger is
    opened again where it is unpickled.

    Example:
        >>> from tje_middleware import DecisionLedger
        >>> with DecisionLedger("sqlite:///tje.db") as ledger:    # doctest: +SKIP
        ...     gate = EntropyGate.from_registry(registry, model="m", task="t", ledger=ledger)

    Args:
        database: The URL of a database, or the registry whose profiles the gates follow.
        capacity: The number of decisions and feedback that may wait.
        flush_seconds: How long a decision waits for others to be written with it (seconds).
        texts: Store each decision's detail, prompt and answer as well, where the framework shows them to the gate; a
            node of a graph and a step of a workflow are given them. They may hold anything that users write.

    Raises:
        RegistryError: the URL is malformed, or names a database that is not supported.
        TypeError: ``database`` is neither a URL nor has a database.
        ValueError: ``capacity`` or ``flush_seconds`` is out of range.
    """

    def __init__(
        self,
        database: str | Database | _HoldsDatabase,
        *,
        capacity: int = 10_000,
        flush_seconds: float = 1.0,
        texts: bool = False,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        if not 0 <= flush_seconds <= threading.TIMEOUT_MAX:
            raise ValueError(f"flush_seconds must be from 0 to {threading.TIMEOUT_MAX:.0f}, not {flush_seconds}")
        self.capacity = capacity
        self.flush_seconds = flush_seconds
        self.texts = texts
        self._writer = Writer(
            copy.copy(_database(database)),  # the registry's own connections stay its own
            capacity=capacity,
            flush_seconds=flush_seconds,
            row_of=partial(row_of, texts=texts),
            after_feedback=check_promises,
        )
        # When the ledger is garbage collected, its thread writes the waiting entries and ends.
        weakref.finalize(self, self._writer.forget).atexit = False

    def record(self, decision: GateDecision, **facts: Unpack[DecisionFacts]) -> None:
        """Store a decision soon. Never waits for the database, never raises for the contents of a decision.

        The last record of a ``decision_id`` counts, with the time of the first: a decision may be recorded when it is
        made and again when more is known. A decision without an id gets a new one, under which it can neither be
        recorded again nor get feedback.

        Args:
            decision: The gate's decision, as far as it is known.
            **facts: Further facts; each may be left out. ``profile``: the profile that it was decided by.
                ``latency_seconds``: from the question to the answer (seconds). ``draft_model`` and
                ``deeper_model``: the models that wrote the draft and the deeper answer. ``deeper_includes_draft``:
                whether always going deeper costs the draft as well, as where the deeper branch refines it.
                ``risk_limit``: the promised share of accepted drafts that may be wrong (0 to 1), with which feedback
                is compared. ``prompt`` and ``answer``: kept only with ``texts``.

        Raises:
            TypeError: a fact with another name.
        """
        if not facts.keys() <= _FACTS:
            raise TypeError(
                f"record() knows no {', '.join(sorted(facts.keys() - _FACTS))}; it takes {_FACTS_IN_WORDS}"
            )
        decision_id = getattr(decision, "decision_id", None)
        if decision_id is None or (isinstance(decision_id, str) and not decision_id):
            decision_id = new_decision_id()
        if not self.texts:
            facts.pop("prompt", None)
            facts.pop("answer", None)
        self._writer.put(SettledDecision(decision, facts, decision_id, time.time(), self._writer.by))

    def feedback(self, decision_id: str, *, correct: bool | None = None, draft_correct: bool | None = None) -> None:
        """Give feedback on whether an answer was right; it is stored soon. Any process may do so, at any time.

        Later feedback replaces earlier feedback. Feedback may come before its decision; feedback whose decision never
        comes is counted in :meth:`unattributed`.

        Args:
            decision_id: The decision's id, of at most 200 characters.
            correct: Whether the answer that was delivered was right.
            draft_correct: Whether the draft was right, where that is known; not needed where the draft was the
                answer.

        Raises:
            ValueError: there is no feedback, or the id is none.
        """
        self._writer.put(feedback(decision_id, time.time(), correct=correct, draft_correct=draft_correct))

    def flush(self, timeout: float = 5.0) -> bool:
        """Write the waiting entries now. This blocks: in an event loop, ``await asyncio.to_thread(ledger.flush)``.

        Returns:
            Whether all entries recorded before have left the queue within ``timeout`` seconds.
        """
        return self._writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Flush and end the thread; entries that cannot be written yet are tried until the process ends.

        Returns:
            As :meth:`flush`.
        """
        return self._writer.close(timeout)

    @property
    def database(self) -> Database:
        """The ledger's database; after a fork the child has another object."""
        return self._writer.database

    @property
    def dropped(self) -> int:
        """The number of decisions and feedback of this process that were dropped."""
        return self._writer.counts.dropped

    @property
    def counts(self) -> LedgerCounts:
        """The numbers of decisions and feedback of this process by what became of them."""
        return self._writer.counts

    @property
    def problem(self) -> str | None:
        """Why the database could not be written when that was last tried; None where it could."""
        return self._writer.problem

    def summary(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        key: ProfileKey | str | None = None,
        deeper_model: str | None = None,
        per: Per = "day",
    ) -> list[DaySummary]:
        """Decisions, tokens spent and tokens saved, by key and day in UTC; waiting decisions are not yet counted.

        Args:
            since: Only decisions from then on.
            until: Only decisions before then.
            key: Only decisions of this key.
            deeper_model: The model that would have written the saved tokens, for their price; None: the model of most
                of the key's deeper answers.
            per: ``"total"``: one summary for each key.

        Raises:
            RegistryError: the database cannot be read.
            ValueError: a time without a zone.
        """
        from .summary import summarised  # noqa: PLC0415 (recording needs none of it)

        return summarised(
            self.database,
            Range(since, until, None if key is None else str(key)),
            deeper_model=deeper_model,
            per=per,
        )

    def unattributed(self, *, since: datetime | None = None, until: datetime | None = None) -> Unattributed:
        """Entries without a key: those that were dropped, and feedback about decisions that are not stored.

        Raises:
            RegistryError: the database cannot be read.
        """
        return unattributed(self.database, Range(since, until))

    def holds(self, decision_id: str) -> bool:
        """Whether a decision is stored; one that waits in a queue is not.

        Raises:
            RegistryError: the database cannot be read.
        """
        return holds(self.database, decision_id)

    def labelled(
        self, key: ProfileKey | str, *, version: int | None = None, since: datetime | None = None
    ) -> list[LabelledDecision]:
        """Decisions with feedback on the draft, accepted or not, as labelled drafts for a calibration.

        Args:
            key: Only decisions of this key.
            version: Only decisions of this version of the profile.
            since: Only decisions from then on.

        Raises:
            RegistryError: the database cannot be read.
            ValueError: a time without a zone.
        """
        from .labels import labelled  # noqa: PLC0415

        return labelled(self.database, str(key), version, since)

    def recalibrated(self, profile: CalibrationProfile, *, since: datetime | None = None) -> CalibrationProfile:
        """Recalibrate a stored profile from the feedback on its decisions; the new profile is not stored.

        Example:
            >>> found = ledger.recalibrated(registry.get(key))    # doctest: +SKIP
            >>> registry.put(found, candidate=True, source="feedback")    # doctest: +SKIP

        Args:
            profile: The stored profile.
            since: Only decisions from then on; None: since the drift alarm about that version was raised, where there
                is one that was not dismissed, else all.

        Raises:
            CalibrationError: that version decided no draft, there is not enough feedback, or too many drafts were
                stopped before their end; the message says what to do.
            RegistryError: the database cannot be read.
            ValueError: a time without a zone.
        """
        from .labels import recalibrated  # noqa: PLC0415

        return recalibrated(self.database, profile, since)

    def prune(self, before: datetime) -> int:
        """Delete decisions from before a time, with their feedback; returns the number of deleted decisions.

        Raises:
            RegistryError: the database cannot be written; some decisions may have been deleted.
            ValueError: a time without a zone.
        """
        return prune(self.database, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DecisionLedger({self.database.url.shown!r})"

    def __reduce__(self) -> tuple[object, ...]:
        opened = partial(
            type(self),
            capacity=self.capacity,
            flush_seconds=self.flush_seconds,
            texts=self.texts,
        )
        return opened, (self.database,)


def _database(given: object) -> Database:
    if isinstance(given, str):
        return Database(given)
    held = given if isinstance(given, Database) else getattr(given, "database", None)
    if not isinstance(held, Database):
        raise TypeError(f"a ledger is kept in a database: give its URL or a registry, not {described(given)}")
    return held
