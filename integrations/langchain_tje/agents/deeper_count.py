"""What a gate in an agent keeps in the agent's state: its decisions, and how often it went deeper."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from operator import add
from typing import Annotated, Any, cast

from langchain.agents.middleware import AgentState
from langchain.agents.middleware.types import OmitFromSchema, PrivateStateAttr
from langgraph.channels.untracked_value import UntrackedValue
from typing_extensions import NotRequired, TypedDict

from tje_middleware.gate.decision import METADATA_KEY

# LangGraph looks for the reducer at the end. Decisions are output of an agent, and no input.
_Decisions = Annotated[list[dict[str, Any]], OmitFromSchema(input=True, output=False), add]
_Count = Annotated[int, UntrackedValue, PrivateStateAttr]
# Whether a gate in front is going deeper; per context, because a middleware may make several calls at once.
_going_deeper: ContextVar[bool] = ContextVar("tje_going_deeper", default=False)
_counting = threading.Lock()


def state_schema_of(name: str) -> type[AgentState[Any]]:
    """What the gate of this name adds to an agent's state; gates in one agent count each for itself.

    ``tje`` holds the fields of every GateDecision of the thread, oldest first, one for each turn that was delivered.
    """
    fields: dict[str, Any] = {METADATA_KEY: NotRequired[_Decisions], _in_run(name): NotRequired[_Count]}
    # LangGraph reads the types at run time; type checkers take no TypedDict whose fields are named then.
    make: Any = TypedDict
    return cast("type[AgentState[Any]]", make(f"{name}State", fields))


class DeeperCount:
    """How often one gate went deeper in this turn and in this run, and whether a gate is going deeper now.

    The run's count is in the agent's state. The turn's count cannot be: when a middleware around the gate calls it
    again, the first call's updates of the state are lost. It is a key of the dict that holds the state in this turn.

    Args:
        state: The state of a request; the same dict in every request of one turn.
        name: The gate's.
        caps: How often it may go deeper in one turn and in one run, by the names of the middleware's options; None
            for no limit.
    """

    def __init__(self, state: Mapping[str, Any], *, name: str, caps: Mapping[str, int | None]) -> None:
        self._state: Any = state
        self._in_turn, self._in_run = f"_{METADATA_KEY}_deeper_in_turn:{name}", _in_run(name)
        self._caps = caps

    @property
    def cap_reached(self) -> str | None:
        """The cap that keeps the gate from going deeper once more, in words; None where there is none."""
        for option, count in (("max_deeper_per_turn", self._turn), ("max_deeper_per_run", self._run)):
            cap = self._caps[option]
            if cap is not None and count >= cap:
                return f"{option}={cap}"
        return None

    @contextmanager
    def going_deeper(self) -> Iterator[None]:
        """Count once more, and let the gates behind this one know that the deeper branch is asking them."""
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
        """The update of the agent's state; empty where no cap for a run needs the count."""
        return {} if self._caps["max_deeper_per_run"] is None or not self._turn else {self._in_run: self._run}

    @property
    def _turn(self) -> int:
        return int(self._state.get(self._in_turn, 0))

    @property
    def _run(self) -> int:
        return int(self._state.get(self._in_run, 0)) + self._turn


def _in_run(name: str) -> str:
    return f"{METADATA_KEY}_deeper_in_run:{name}"
