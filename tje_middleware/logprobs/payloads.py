"""The public entrance: any provider's or framework's payload, whole or as a list of streamed chunks."""

from __future__ import annotations

from collections.abc import Iterable

from .envelopes import read_payload
from .fields import reading
from .sequence import SequenceLogprobs
from .stream import LogprobsAccumulator, is_stream, refuse_several_answers


def parse_logprobs(payload: object, *, choice: int = 0) -> SequenceLogprobs:
    """Read the log-probabilities out of any provider's or framework's payload.

    Args:
        payload: What came back: an SDK object or a dict, in any of the shapes that the error names.
        choice: Which one, where the payload holds several answers to one prompt (``n > 1``).

    Returns:
        The sequence, (T, K) natural-log probabilities with tokens and sampled logprobs where known.

    Raises:
        MissingLogprobs: the shape is known, but the provider sent no logprobs in it.
        UnreadableLogprobs: the shape is unknown (the message names what was found and what is known), a
            number is NaN, +inf or above 0, or the logprobs cover only part of the text.
    """
    with reading(payload):
        if is_stream(payload):
            refuse_several_answers(payload)
            return _accumulated(payload, choice)
        return read_payload(payload, choice)


def _accumulated(chunks: Iterable[object], choice: int) -> SequenceLogprobs:
    accumulator = LogprobsAccumulator(choice=choice)
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator.result()
