"""Every signal of one draft of 300 tokens x 20 alternatives, against reading that draft's line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy

import numpy as np

from tests.benchmarks.timing import Row, Timing
from tje_middleware import SequenceLogprobs, parse_logprobs
from tje_middleware.signals import CANDIDATES, resolve_signal

TOKENS, ALTERNATIVES = 300, 20
WORDS = ("The", " answer", " to", " this", " is", " 4", "2", ",", " so", ".\n")


def line(*, thinking: bool) -> str:
    """A record's line as it stands on disk: logprobs to four decimals."""
    rng = np.random.default_rng(0)
    logs = np.sort(rng.normal(0, 3, (TOKENS, ALTERNATIVES)), axis=1)[:, ::-1]
    logs = np.round(logs - np.log(np.exp(logs).sum(axis=1, keepdims=True)), 4)
    texts = [WORDS[index] for index in rng.integers(0, len(WORDS), TOKENS)]
    if thinking:
        texts[0], texts[200] = "<think>", "</think>"
    sampled = logs[:, 0].tolist()
    return json.dumps({"top_logprobs": logs.tolist(), "token_texts": texts, "sampled_logprobs": sampled})


def read(text: str) -> SequenceLogprobs:
    return parse_logprobs(json.loads(text))


def rows(timing: Timing) -> Iterator[Row]:
    for thinking in (False, True):
        text = line(thinking=thinking)
        sequence = read(text)
        names = [name for name in CANDIDATES if thinking or not name.endswith("@thinking")]
        signals = [resolve_signal(name) for name in names]
        yield timing.compared(
            f"{len(names)} signals of a draft{' with thinking' if thinking else ''}",
            # A copy has nothing computed yet.
            lambda sequence=sequence, signals=signals: [
                signal(one) for one in [copy(sequence)] for signal in signals
            ],
            against="reading its line",
            reference=lambda text=text: read(text),
            at_most=1.0,
        )
