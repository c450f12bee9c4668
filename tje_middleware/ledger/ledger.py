"""The ledger: what gates decided, what it cost and saved, and what became of it."""

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
    """Writes decisions down, off the hot path, and sums them up.

    A decision is put into a bounded queue, which takes microseconds, and written by a thread, in batches. Where the
    queue is full the decision is dropped: what the queue took in before is never given up for it. Drops are counted
    (:attr:`dropped`), logged and stored. While the database is down, what waits is kept and tried again. At the end
    of the process what waits is written, for at most 5 seconds; a process that is killed, or left by ``os._exit``,
    loses what was recorded within the last ``flush_seconds``.

    Feedback is held against what was promised of a draft (``risk_limit``); where too many are wrong, an alarm about
    the profile is raised in the registry that shares the database, and in no other.

    Threads and event loops may share a ledger; a forked process begins with an empty queue, and a pickled ledger is
    opened anew where it is unpickled.

    Example:
        >>> from tje_middleware import DecisionLedger
        >>> with DecisionLedger("sqlite:///tje.db") as ledger:    # doctest: +SKIP
        ...     gate = EntropyGate.from_registry(registry, model="m", task="t", ledger=ledger)

    Args:
        database: Its URL, or whatever has one: the registry whose profiles the gates follow.
        capacity: Decisions and feedback that may wait.
        flush_seconds: How long a decision waits for others to be written with it (seconds).
        texts: Store each decision's detail, prompt and answer as well, where the framework shows them to the gate: a
            node of a graph and a step of a workflow are given them. They may hold anything that users write.

    Raises:
        RegistryError: a URL that is none, or of a database that is not supported.
        TypeError: what was given has no database.
        ValueError: no room, or a time that nothing can wait for.
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
        # A ledger that is forgotten: its thread writes what waits, and ends.
        weakref.finalize(self, self._writer.forget).atexit = False

    def record(self, decision: GateDecision, **facts: Unpack[DecisionFacts]) -> None:
        """Have a decision stored, soon. Never waits for the database, never raises over what a decision holds.

        The last record of a ``decision_id`` counts, at the time of the first: a decision may be recorded when it is
        made and again when it is settled. One without an id is given one that nobody knows, so that it can neither
        be settled nor get feedback.

        Args:
            decision: The gate's, as far as it is settled.
            **facts: What else is known; each may be left out. ``profile``: what it was decided by.
                ``latency_seconds``: from the question to the answer (seconds). ``draft_model`` and
                ``deeper_model``: the models that wrote the draft and the deeper answer. ``deeper_includes_draft``:
                whether always going deeper costs the draft too, as where the deeper branch refines it.
                ``risk_limit``: share of the drafts accepted like this that may be wrong (0 to 1), which feedback is
                held against. ``prompt`` and ``answer``: kept only with ``texts``.

        Raises:
            TypeError: a fact of another name.
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
        """Say whether an answer was right; stored soon, as decisions are. Any process may say so, and at any time.

        What is said later replaces what was said before. Feedback may come before its decision; that of an id that
        never comes is counted in :meth:`unattributed`.

        Args:
            decision_id: The decision's, of at most 200 characters.
            correct: Whether the answer that was delivered was right.
            draft_correct: Whether the draft was, where that is known; of a draft that was the answer ``correct`` says
                so already.

        Raises:
            ValueError: nothing is said, or of nothing that is an id.
        """
        self._writer.put(feedback(decision_id, time.time(), correct=correct, draft_correct=draft_correct))

    def flush(self, timeout: float = 5.0) -> bool:
        """Write now what waits. This blocks: in an event loop, ``await asyncio.to_thread(ledger.flush)``.

        Returns:
            Whether all that was recorded before has left the queue within ``timeout`` seconds.
        """
        return self._writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Flush and end the thread; what cannot be written yet is tried until the process ends.

        Returns:
            As :meth:`flush`.
        """
        return self._writer.close(timeout)

    @property
    def database(self) -> Database:
        """Where it is written; after a fork another object in the child."""
        return self._writer.database

    @property
    def dropped(self) -> int:
        """Decisions and feedback of this process that were dropped."""
        return self._writer.counts.dropped

    @property
    def counts(self) -> LedgerCounts:
        """What became of all that was recorded here in this process."""
        return self._writer.counts

    @property
    def problem(self) -> str | None:
        """Why the database could not be written when that was last tried; None: it could."""
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
        """What was decided, spent and saved, by key and day in UTC; what waits in a queue is not yet in it.

        Args:
            since: Decisions from then on.
            until: Decisions before then.
            key: Of this key alone.
            deeper_model: What the tokens that were not spent would have been written by, for their price; None: the
                model that most of the key's deeper answers are by.
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
        """What belongs to no key: decisions that were dropped, and feedback about decisions that are not there.

        Raises:
            RegistryError: the database cannot be read.
        """
        return unattributed(self.database, Range(since, until))

    def holds(self, decision_id: str) -> bool:
        """Whether a decision is stored; one that waits in a queue is not yet.

        Raises:
            RegistryError: the database cannot be read.
        """
        return holds(self.database, decision_id)

    def labelled(
        self, key: ProfileKey | str, *, version: int | None = None, since: datetime | None = None
    ) -> list[LabelledDecision]:
        """Decisions with feedback, as a calibration needs them: of those accepted, and of those that went deeper.

        Args:
            key: Whose.
            version: Of this version of the profile alone.
            since: Decided from then on.

        Raises:
            RegistryError: the database cannot be read.
            ValueError: a time without a zone.
        """
        from .labels import labelled  # noqa: PLC0415

        return labelled(self.database, str(key), version, since)

    def recalibrated(self, profile: CalibrationProfile, *, since: datetime | None = None) -> CalibrationProfile:
        """What the feedback on the decisions of a stored version gives: a profile that is stored nowhere yet.

        Example:
            >>> found = ledger.recalibrated(registry.get(key))    # doctest: +SKIP
            >>> registry.put(found, candidate=True, source="feedback")    # doctest: +SKIP

        Args:
            profile: The version.
            since: Of drafts decided from then on; None: since the drift alarm about that version was raised, where
                there is one that nobody has dismissed, else of all.

        Raises:
            CalibrationError: that version decided nothing, there is not enough feedback, or too many drafts were
                stopped before their end; the message says of what, and what to do.
            RegistryError: the database cannot be read.
            ValueError: a time without a zone.
        """
        from .labels import recalibrated  # noqa: PLC0415

        return recalibrated(self.database, profile, since)

    def prune(self, before: datetime) -> int:
        """Delete decisions from before a time, with their feedback; returns how many decisions there were.

        Raises:
            RegistryError: the database cannot be written; what was deleted until then stays so.
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
