"""The messages in a graph's state, whichever form the state has: a dict, a pydantic model, a dataclass, a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from pydantic import BaseModel


def values_in(state: object, key: str) -> list[Any]:
    """The list that a state has under a key; empty where the key is missing, as in what a ``Send`` carries.

    Raises:
        TypeError: this is no state with keys.
    """
    return list(_value(state, key) or []) if key in _names(state) else []


def with_values(state: Any, values: dict[str, Any]) -> Any:
    """The state with other values under some keys; the one that was given is unchanged."""
    if isinstance(state, dict):
        return {**state, **values}
    if isinstance(state, BaseModel):
        return state.model_copy(update=values)
    return replace(state, **values)


def messages_of(state: object, key: str) -> list[Any]:
    """The messages of a state, or of an update of one; a state may also be a bare list of messages.

    Raises:
        TypeError: this is no state, or what is under the key are no messages.
        ValueError: it has no such key.
    """
    if isinstance(state, list):
        return list(state)
    names = _names(state)
    if key not in names:
        found = ", ".join(map(repr, names)) or "nothing"
        raise ValueError(f"the state has no {key!r} but {found}: give its messages' name as messages_key")
    messages = _value(state, key)
    if isinstance(messages, BaseMessage):
        return [messages]
    if not isinstance(messages, (list, tuple)):
        raise TypeError(f"{key!r} holds a {type(messages).__name__}, not a list of messages")
    return list(messages)


def with_messages(state: Any, key: str, messages: Sequence[Any]) -> Any:
    """The state with these messages in the place of its own."""
    return list(messages) if isinstance(state, list) else with_values(state, {key: list(messages)})


def update_of(state: object, key: str, messages: Sequence[Any]) -> Any:
    """What a node returns to write these messages into a state of this form."""
    return list(messages) if isinstance(state, list) else {key: list(messages)}


def last_message(messages: list[Any], key: str) -> BaseMessage:
    """The last of a state's messages, as a message.

    Raises:
        ValueError: there is none.
    """
    if not messages:
        raise ValueError(f"there is no draft: {key!r} is empty; the gate comes after the node that drafts")
    return convert_to_messages(messages[-1:])[0]


def draft_in(messages: list[Any], key: str) -> AIMessage:
    """The draft that stands at the end of a state's messages.

    Raises:
        ValueError: there is none, and what is there in its place.
    """
    last = last_message(messages, key)
    if not isinstance(last, AIMessage):
        raise ValueError(  # noqa: TRY004 (the state is of the right type, the graph is wired wrongly)
            f"there is no draft: the last message of {key!r} is a {type(last).__name__}, not an AIMessage; "
            "let the edge to the gate come from the node whose model answers"
        )
    return last


def _value(state: object, key: str) -> Any:
    return state[key] if isinstance(state, dict) else getattr(state, key)


def _names(state: object) -> list[str]:
    if isinstance(state, dict):
        return list(state)
    if isinstance(state, BaseModel):
        return list(type(state).model_fields)
    if is_dataclass(state) and not isinstance(state, type):
        return [field.name for field in fields(state)]
    raise TypeError(
        f"a state with keys is a dict, a pydantic model or a dataclass, not a {type(state).__name__}; "
        "without keys it is a list of messages"
    )
