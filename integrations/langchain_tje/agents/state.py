"""What a gate in an agent keeps in the agent's state: its decisions, and how often it went deeper."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from operator import add
from typing import Annotated, Any, cast

from langchain.agents.middleware import AgentState
from langchain.agents.middleware.types import OmitFromSchema, PrivateStateAttr
from langgraph.channels.untracked_value import UntrackedValue
from typing_extensions import NotRequired, TypedDict

from tje_middleware.gate.decision import METADATA_KEY

# The reducer last: LangGraph looks for it there. A caller does not hand decisions in; they come out.
_Decisions = Annotated[list[dict[str, Any]], OmitFromSchema(input=True, output=False), add]
_Count = Annotated[int, UntrackedValue, PrivateStateAttr]
# Whether a gate in front is going deeper; of the calls that a middleware makes at the same time each has its own.
_going_deeper: ContextVar[bool] = ContextVar("tje_going_deeper", default=False)
_counting = threading.Lock()


class EntropyGateState(AgentState[Any]):
    """An agent's state with the decisions of its thread.

    Attributes:
        tje: The fields of every GateDecision, oldest first, one for each of the agent's turns that was delivered.
    """

    tje: NotRequired[_Decisions]


def state_schema_of(name: str) -> type[EntropyGateState]:
    """What the gate of this name adds to an agent's state; gates in one agent count each for itself."""
    fields: dict[str, Any] = {METADATA_KEY: NotRequired[_Decisions], _in_run(name): NotRequired[_Count]}
    # Looked up by its types at run time; type checkers know the part that has a name of its own.
    make: Any = TypedDict
    return cast("type[EntropyGateState]", make(f"{name}State", fields))


@dataclass(frozen=True)
class Caps:
    """How often a gate may go deeper; None for no limit.

    Attributes:
        per_turn: In one turn of the agent's loop, in which middleware around the gate may call it several times.
        per_run: In one invocation of the agent.

    Raises:
        ValueError: one of them is no count.
    """

    per_turn: int | None
    per_run: int | None

    def __post_init__(self) -> None:
        for name, value in (("max_deeper_per_turn", self.per_turn), ("max_deeper_per_run", self.per_run)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f"{name} must be None or a count of at least 0, not {value!r}")


class DeeperCount:
    """How often one gate went deeper in this turn and in this run, and whether a gate is at it now.

    The run's count is in the agent's state. What is of the turn cannot be: a middleware around the gate that calls it
    again undoes what it told the state. It is kept in the dict that holds the state for this turn, and goes with it.

    Args:
        state: The state of a request; the same dict in every request of one turn.
        name: The gate's.
        caps: How often it may.
    """

    def __init__(self, state: Mapping[str, Any], *, name: str, caps: Caps) -> None:
        self._state: Any = state
        self._in_turn, self._in_run = f"_{METADATA_KEY}_deeper_in_turn:{name}", _in_run(name)
        self._caps = caps

    @property
    def cap_reached(self) -> str | None:
        """The cap that keeps the gate from going deeper once more, in words; None where there is none."""
        if self._caps.per_turn is not None and self._turn >= self._caps.per_turn:
            return f"max_deeper_per_turn={self._caps.per_turn}"
        if self._caps.per_run is not None and self._run >= self._caps.per_run:
            return f"max_deeper_per_run={self._caps.per_run}"
        return None

    @contextmanager
    def going_deeper(self) -> Iterator[None]:
        """Count, and tell the gates behind this one what they are asked for."""
        with _counting:
            self._state[self._in_turn] = self._turn + 1
        before = _going_deeper.get()
        _going_deeper.set(True)
        try:
            yield
        finally:
            _going_deeper.set(before)

    @property
    def is_for_another(self) -> bool:
        """Whether a gate in front is going deeper, whose answer is not to be judged again."""
        return _going_deeper.get()

    @property
    def update(self) -> dict[str, int]:
        """What to tell the state; nothing where nobody will ask for it."""
        return {} if self._caps.per_run is None or not self._turn else {self._in_run: self._run}

    @property
    def _turn(self) -> int:
        return int(self._state.get(self._in_turn, 0))

    @property
    def _run(self) -> int:
        return int(self._state.get(self._in_run, 0)) + self._turn


def _in_run(name: str) -> str:
    return f"{METADATA_KEY}_deeper_in_run:{name}"
