"""Whatever arrives: parse_logprobs raises nothing but TjeError, and no NaN becomes a finite entropy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tje_middleware import SequenceLogprobs, mean_entropy, parse_logprobs, token_entropies
from tje_middleware.errors import TjeError

from . import shapes
from .test_streams import streams

FIELDS = (
    "choices",
    "message",
    "delta",
    "logprobs",
    "content",
    "top_logprobs",
    "token",
    "logprob",
    "raw",
    "generations",
    "generation_info",
    "output",
    "outputs",
    "token_ids",
    "candidates",
    "response_metadata",
    "logprobs_result",
    "completion_probabilities",
    "probs",
    "type",
    "text",
    "index",
    "done",
)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.floats(-20, 0),
    st.text(max_size=5),
    st.binary(max_size=3),
)
KEYS = st.sampled_from(FIELDS) | st.text(max_size=4) | st.integers(0, 9)
JSON_LIKE = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)
ORDINARY = {**shapes.shapes(), **{f"stream of {name}": stream for name, stream in streams().items()}}


def as_objects(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{str(key): as_objects(item) for key, item in value.items()})
    return [as_objects(item) for item in value] if isinstance(value, list) else value


def entropies_or_refusal(payload: Any) -> np.ndarray | None:
    """Entropies, or None where the payload is refused; anything else fails the test."""
    try:
        sequence = parse_logprobs(payload)
    except TjeError as error:
        assert len(str(error)) < 1000
        return None
    entropies = token_entropies(sequence)
    assert np.isfinite(entropies).all()
    return entropies


@settings(max_examples=400, deadline=None)
@given(JSON_LIKE)
def test_any_value_is_read_or_refused(value: Any) -> None:
    entropies_or_refusal(value)
    entropies_or_refusal(as_objects(value))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside dicts, lists and objects, as the path to it."""
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = dict(enumerate(value)).items()
    else:
        inner = vars(value).items() if isinstance(value, (BaseModel, SimpleNamespace)) or is_dataclass(value) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key] if isinstance(value, (dict, list)) else getattr(value, key)
    return value


def put(payload: Any, path: tuple[Any, ...], value: Any) -> None:
    parent, key = at(payload, path[:-1]), path[-1]
    if isinstance(parent, (dict, list)):
        parent[key] = value
    else:
        vars(parent)[key] = value


def remove(payload: Any, path: tuple[Any, ...]) -> None:
    parent, key = at(payload, path[:-1]), path[-1]
    del (parent if isinstance(parent, (dict, list)) else vars(parent))[key]


PLACES = {name: list(places(payload)) for name, payload in ORDINARY.items() if not isinstance(payload, np.ndarray)}
WRONG = st.one_of(
    ATOMS,
    st.sampled_from([float("nan"), float("inf"), -float("inf"), [], {}, (), [[]], [{}], {"a": {}}, [None], object()]),
    JSON_LIKE,
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(PLACES)), st.data())
def test_a_payload_damaged_at_any_place_is_read_or_refused(name: str, data: Any) -> None:
    payload = copy.deepcopy(ORDINARY[name])
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(PLACES[name]))
        try:
            if data.draw(st.booleans()):
                put(payload, path, data.draw(WRONG))
            else:
                remove(payload, path)
        except (LookupError, AttributeError, TypeError):
            continue  # the first damage took the place of the second away
    entropies_or_refusal(payload)


def used(path: tuple[Any, ...], value: Any) -> bool:
    """Whether a number at this place is one of an alternative's logprobs or probabilities."""
    alternatives = {"top_logprobs", "top_candidates", "topCandidates", "probs", "top_probs", "logprobs"}
    return isinstance(value, float) and (path[-1] in {"prob"} or bool(alternatives & {*path[:-1]}) or len(path) == 2)


def in_a_copy(name: str, path: tuple[Any, ...]) -> bool:
    """Whether the place is in a copy of the logprobs that a better source, or the stream's deltas, outrank."""
    copies = {"LlamaIndex chat": path[0] == "logprobs", "LangChain generation": "generation_info" in path}
    repeats = "Responses" in name and name.startswith("stream") and path[0] in {5, 6, 7}
    outranked = (
        name.startswith("LangChain") and "generation_info" in path and "text" not in name and "info" not in name
    )
    return copies.get(name, False) or repeats or outranked


USED = [
    (name, path)
    for name, paths in PLACES.items()
    for path in paths
    if used(path, at(ORDINARY[name], path)) and not in_a_copy(name, path)
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(USED), st.sampled_from([float("nan"), np.float64("nan"), np.float32("nan")]))
def test_a_nan_among_the_logprobs_is_refused_in_every_shape(place: tuple[str, tuple[Any, ...]], nan: float) -> None:
    name, path = place
    payload = copy.deepcopy(ORDINARY[name])
    put(payload, path, nan)
    with pytest.raises(TjeError):
        mean_entropy(parse_logprobs(payload))


def itself(kind: type) -> Any:
    value = kind()
    if kind is dict:
        value.update(dict.fromkeys(FIELDS, value))
    else:
        value.append(value)
    return value


def raising(error: type[Exception]) -> Any:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise error(name)

    return Hostile()


class Liar:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError


def nested(depth: int, name: str) -> Any:
    value: Any = {"logprobs": [[-0.1]]}
    for _ in range(depth):
        value = {name: value, "logprobs": [[-0.1]]}
    return value


HOSTILE = {
    "MagicMock": MagicMock(),
    "Mock": Mock(),
    "list of mocks": [MagicMock()],
    "choices of mocks": {"choices": [MagicMock()]},
    "dict in itself": itself(dict),
    "list in itself": itself(list),
    "fields that are itself": {"raw": itself(dict)},
    "missing attributes": raising(AttributeError),
    "raising properties": raising(ZeroDivisionError),
    "raising keys": raising(KeyError),
    "raising stops": raising(StopIteration),
    "raising choice": {"choices": [raising(ValueError)]},
    "raising position": [raising(MemoryError)],
    "raising class": Liar(),
    "a class": SequenceLogprobs,
    "a function": parse_logprobs,
    "a generator": (number for number in ()),
    "deep raw": nested(300, "raw"),
    "deep message": nested(30, "message"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_object_is_refused(name: str) -> None:
    try:
        parse_logprobs(HOSTILE[name])
    except TjeError as error:
        assert len(str(error)) < 1000
    else:
        assert name.startswith("deep")
