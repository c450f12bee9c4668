"""The drafts that the benchmarks gate, and a gate that was calibrated on drafts like them and accepts them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import cycle
from typing import Any, TypeVar

import numpy as np

from tests.benchmarks.timing import NotMeasuredError
from tje_middleware import (
    CalibrationProfile,
    CalibrationRecord,
    EntropyGate,
    GateDecision,
    ProfileKey,
    calibrate,
    mean_entropy,
    parse_logprobs,
)

TOKENS, ALTERNATIVES = 1_000, 20
#: Above the mean entropy of every draft, in bits: a random distribution over 20 alternatives has at most 4.3.
ACCEPTS_ALL = 4.5
_DRAFTS = 8
_AS_MANY_AS_A_WINDOW = 200

_Answer = TypeVar("_Answer")


def payload(seed: int = 0) -> dict[str, Any]:
    """A chat completion of 1,000 tokens x 20 alternatives, as a dict."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.normal(0, 3, (TOKENS, ALTERNATIVES)), axis=1)[:, ::-1]
    rows = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    content = [
        {
            "token": f"t{position} ",
            "logprob": float(row[0]),
            "bytes": list(f"t{position} ".encode()),
            "top_logprobs": [
                {"token": f"a{rank}", "logprob": float(value), "bytes": [97, rank]} for rank, value in enumerate(row)
            ],
        }
        for position, row in enumerate(rows)
    ]
    text = "".join(entry["token"] for entry in content)
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "logprobs": {"content": content}}]}


@cache
def payloads() -> tuple[dict[str, Any], ...]:
    """The drafts: a gate that met one of them only would rightly say that its drafts have changed."""
    return tuple(map(payload, range(_DRAFTS)))


@cache
def profile_of_drafts() -> CalibrationProfile:
    """A usable profile whose records are distributed as the drafts are, so that nothing drifts."""
    signals = [mean_entropy(parse_logprobs(draft)) for draft in payloads()]
    middle = np.median(signals)
    rng = np.random.default_rng(0)
    records = [
        CalibrationRecord(correct=bool(value < middle) != (rng.random() < 0.1), signals={"mean_entropy": value})
        for value in signals * 50
    ]
    return calibrate(records, key=ProfileKey(model="m", task="t"))


def accepting_gate() -> EntropyGate:
    """A gate that looks for drift, finds none, and accepts every draft, so that a gated call is one call.

    Raises:
        NotMeasuredError: it does not.
    """
    gate = EntropyGate(profile_of_drafts()).with_threshold(ACCEPTS_ALL)
    decide = decisions(gate, cycle([*map(parse_logprobs, payloads())]))
    for _ in range(_AS_MANY_AS_A_WINDOW):
        decide()
    return gate


def decisions(gate: EntropyGate, drafts: Iterator[object]) -> Callable[[], None]:
    """One more decision by the gate itself, to be timed: of the next draft."""
    return accepted(lambda: gate.decide(next(drafts)), lambda decision: decision)


def accepted(
    call: Callable[[], _Answer], decision_of: Callable[[_Answer], GateDecision | Mapping[str, Any]]
) -> Callable[[], None]:
    """A call to be timed; it fails where its draft was not accepted on the evidence, as none is after an alarm.

    Raises:
        NotMeasuredError: by the call, with the reason of its decision.
    """

    def checked() -> None:
        decision = decision_of(call())
        reason = decision.reason if isinstance(decision, GateDecision) else decision["reason"]
        if reason != "confident":
            raise NotMeasuredError(f"a draft that was to be accepted was not: {decision}")

    return checked
