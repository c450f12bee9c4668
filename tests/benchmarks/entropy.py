"""From an OpenAI payload of 1,000 tokens x 20 alternatives to entropies and to a decision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from itertools import chain, cycle
from operator import itemgetter

import numpy as np

from tests.benchmarks.drafts import ALTERNATIVES, TOKENS, accepting_gate, decisions, payloads
from tests.benchmarks.timing import Row, Timing
from tje_middleware import EntropyAccumulator, parse_logprobs, token_entropies


def plain_numpy(response: dict) -> np.ndarray:
    """What one writes at first: nested comprehensions, softmax, entropy with 0 log 0 = 0."""
    content = response["choices"][0]["logprobs"]["content"]
    logs = np.array([[alternative["logprob"] for alternative in entry["top_logprobs"]] for entry in content])
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    p = weights / weights.sum(axis=1, keepdims=True)
    return -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(axis=1)


def numpy_with_itemgetter(response: dict) -> np.ndarray:
    """The fastest that numpy and the standard library do in a few lines; checks nothing, keeps no tokens."""
    content = response["choices"][0]["logprobs"]["content"]
    rows = [*map(itemgetter("top_logprobs"), content)]
    numbers = map(itemgetter("logprob"), chain.from_iterable(rows))
    logs = np.fromiter(numbers, np.float64, TOKENS * ALTERNATIVES).reshape(TOKENS, ALTERNATIVES)
    weights = np.exp(logs)
    mass = weights.sum(axis=1)
    return (np.log(mass) - (weights * logs).sum(axis=1) / mass) / math.log(2)


def bare_numpy(logs: np.ndarray) -> float:
    """A bare pass over numbers that are in an array already."""
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    p = weights / weights.sum(axis=1, keepdims=True)
    return float(-(p * np.log2(p)).sum(axis=1).mean())


def pure_python(response: dict) -> float:
    """The same without numpy."""
    total = 0.0
    content = response["choices"][0]["logprobs"]["content"]
    for entry in content:
        weights = [math.exp(alternative["logprob"]) for alternative in entry["top_logprobs"]]
        mass = sum(weights)
        for weight in weights:
            p = weight / mass
            if p > 0:
                total -= p * math.log2(p)
    return total / len(content)


def accumulate(rows: list[list[float]]) -> float:
    running = EntropyAccumulator()
    for row in rows:
        running.add(row)
    return running.mean


def accumulate_plainly(rows: list[list[float]]) -> float:
    total = 0.0
    for row in rows:
        weights = [math.exp(value) for value in row]
        mass = sum(weights)
        total -= sum(weight / mass * math.log2(weight / mass) for weight in weights if weight > 0)
    return total / len(rows)


def rows(timing: Timing) -> Iterator[Row]:
    response = payloads()[0]
    sequence = parse_logprobs(response)
    stream = sequence.top_logprobs.tolist()
    gate = accepting_gate()
    decide_payload = decisions(gate, cycle(payloads()))
    # A copy has nothing computed yet.
    decide_sequence = decisions(gate, map(copy, cycle([*map(parse_logprobs, payloads())])))
    assert np.allclose(token_entropies(sequence), plain_numpy(response))
    assert np.allclose(token_entropies(sequence), numpy_with_itemgetter(response))
    assert math.isclose(pure_python(response), accumulate(stream))
    yield timing.compared(
        "payload -> token entropies",
        lambda: token_entropies(parse_logprobs(response)),
        against="plain numpy, comprehensions",
        reference=lambda: plain_numpy(response),
        at_most=0.5,
    )
    yield timing.compared(
        "payload -> token entropies",
        lambda: token_entropies(parse_logprobs(response)),
        against="numpy with itemgetter, fromiter",
        reference=lambda: numpy_with_itemgetter(response),
    )
    yield timing.compared(
        "payload -> decision",
        decide_payload,
        against="a pure Python loop",
        reference=lambda: pure_python(response),
    )
    yield timing.compared(
        "logprobs in hand -> decision",
        decide_sequence,
        against="a pure Python loop over floats",
        reference=lambda: accumulate_plainly(stream),
        at_most=0.1,
    )
    yield timing.compared(
        "logprobs in hand -> decision",
        decide_sequence,
        against="a bare numpy pass",
        reference=lambda: bare_numpy(sequence.top_logprobs),
        at_most=1.0,
    )
    whole = timing.compared(
        "stream, a token",
        lambda: accumulate(stream),
        against="a pure Python loop, a token",
        reference=lambda: accumulate_plainly(stream),
    )
    yield Row(whole.what, whole.against, whole.value / TOKENS, whole.reference / TOKENS)
    yield Row("stream, a token", "2 microseconds", whole.value / TOKENS, 2e-6, at_most=1.0)
