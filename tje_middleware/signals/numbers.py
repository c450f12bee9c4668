"""Signals of the tokens that hold a digit: in arithmetic they carry the result, the words around them do not."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from .._arrays import FloatArray
from ..errors import SignalError
from ..logprobs import SequenceLogprobs
from .positions import entropies, token_ends, token_texts

_DIGIT = re.compile(r"\d")
# A fragment of a character or a special token, as tokenizers and providers write them: their digits count nothing.
_CODE = re.compile(r"<0x[0-9a-fA-F]{2}>|(?:bytes:)?(?:\\x[0-9a-fA-F]{2})+|<\|[^<>|]*\|>")


def number_entropy(sequence: SequenceLogprobs) -> float:
    """Total entropy of the tokens that hold a digit (bits).

    Raises:
        SignalError: there is no such token, there are no tokens, or their texts are not known.
    """
    return float(_number_entropies(sequence).sum())


def number_max(sequence: SequenceLogprobs) -> float:
    """The largest entropy of a token that holds a digit (bits).

    Raises:
        SignalError: as :func:`number_entropy`.
    """
    return float(_number_entropies(sequence).max())


def _number_entropies(sequence: SequenceLogprobs) -> FloatArray:
    token_texts(sequence)
    positions = sequence.once(number_positions)
    if not len(positions):
        raise SignalError("no token of the sequence holds a digit")
    return entropies(sequence)[positions]


def number_positions(sequence: SequenceLogprobs) -> NDArray[np.int64]:
    """Which tokens hold a digit, ascending; digits of byte codes and special tokens do not count."""
    text, tokens = sequence.text or "", token_texts(sequence)
    digits = [match.start() for match in _DIGIT.finditer(text)]
    positions = np.unique(np.searchsorted(token_ends(sequence), digits, side="right"))
    if "\\x" in text or "<" in text:
        positions = positions[[not _CODE.fullmatch(tokens[position].strip()) for position in positions]]
    return positions
