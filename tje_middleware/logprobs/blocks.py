"""Blocks: the innermost part of a payload, which holds the numbers; one reader for each notation in use.

A *block* describes consecutive positions. Each reader takes a block and returns a SequenceLogprobs, or None where the
block is in another notation.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from ..errors import MissingLogprobs, UnknownShape, UnreadableLogprobs
from .arrays import FloatArray
from .fields import describe, field, getter, has, is_sequence
from .sequence import SequenceLogprobs, frozen

ASK = "ask the provider for logprobs=True and top_logprobs=20"


def read_block(block: object) -> SequenceLogprobs:
    """Read a block in any known notation.

    Raises:
        MissingLogprobs: the block is in a known notation but holds no positions or no alternatives.
        UnreadableLogprobs: an unknown notation, or numbers that are no logprobs.
    """
    if isinstance(block, SequenceLogprobs):
        return block
    if isinstance(block, np.ndarray):
        return SequenceLogprobs(block)
    if is_sequence(block) and not block:
        raise MissingLogprobs(f"the list of positions is empty; {ASK}")
    for reader in _READERS:
        sequence = reader(block)
        if sequence is not None:
            return sequence
    raise UnknownShape(f"no known notation of logprobs: {describe(block)}")


def _chat(block: object) -> SequenceLogprobs | None:
    """OpenAI ``{"content": [...]}``, with DeepSeek's ``reasoning_content`` before it where it is given."""
    if not has(block, "content") or has(block, "token"):
        return None
    thinking, answer = field(block, "reasoning_content"), field(block, "content")
    if not thinking and not answer:
        if field(block, "tokens", "token_logprobs", "top_logprobs") is not None:
            return None  # Together's legacy notation, to which OpenAI's SDK adds an empty content
        refused = " (it refused to answer)" if field(block, "refusal") else ""
        raise MissingLogprobs(f"the provider sent no logprobs for the answer{refused}; {ASK}")
    if not thinking:
        return read_block(answer)
    parts = []
    for positions, marked in ((thinking, True), (answer, False)):
        if positions:
            part = read_block(positions)
            parts.append(replace(part, marked_thinking=np.full(len(part), marked)))
    return SequenceLogprobs.concatenate(parts)


def _positions(block: object) -> SequenceLogprobs | None:
    """A list of ``{token, logprob, top_logprobs}``: OpenAI, Responses, Ollama, LiteLLM, vLLM, llama.cpp."""
    if not is_sequence(block) or not has(block[0], "top_logprobs"):
        return None
    try:
        rows = [*map(getter(block[0], "top_logprobs"), block)]
    except (LookupError, AttributeError, TypeError):  # a position leaves the field out instead of empty
        rows = [field(position, "top_logprobs") for position in block]
    has_sampled = has(block[0], "logprob")
    return SequenceLogprobs(
        top_logprobs=_array(rows),
        tokens=_texts(block, "token"),
        sampled_logprobs=_known([*map(getter(block[0], "logprob"), block)], "logprob") if has_sampled else None,
    )


def _sampled_only(block: object) -> SequenceLogprobs | None:
    """A list of ``{token, logprob}``: the provider was not asked for alternatives."""
    if is_sequence(block) and has(block[0], "token") and has(block[0], "logprob"):
        raise MissingLogprobs(f"only the sampled tokens' logprobs are there, without alternatives; {ASK}")
    return None


def _legacy(block: object) -> SequenceLogprobs | None:
    """Legacy completions ``{tokens, token_logprobs, top_logprobs: [{token: logprob}]}``, and our records."""
    if not has(block, "top_logprobs", "token_logprobs") or has(block, "token"):
        return None
    rows = field(block, "top_logprobs")
    if rows is None:
        raise MissingLogprobs(f"there is no list of alternatives (top_logprobs); {ASK}")
    texts, sampled = field(block, "tokens", "token_texts"), field(block, "token_logprobs", "sampled_logprobs")
    return SequenceLogprobs(
        top_logprobs=_array(rows),
        tokens=tuple(map(str, texts)) if is_sequence(texts) else None,
        sampled_logprobs=_known(sampled, "sampled_logprobs") if is_sequence(sampled) else None,
    )


def _google(block: object) -> SequenceLogprobs | None:
    """Google's ``{top_candidates: [{candidates: [{token, log_probability}]}], chosen_candidates: [...]}``."""
    if not has(block, "top_candidates", "topCandidates"):
        return None
    groups = field(block, "top_candidates", "topCandidates")
    chosen = field(block, "chosen_candidates", "chosenCandidates")
    if not is_sequence(groups) or not groups:
        raise MissingLogprobs("top_candidates is empty; ask with response_logprobs=True and logprobs=20")
    probability = ("log_probability", "logProbability")
    rows = []
    for group in groups:
        candidates = field(group, "candidates")
        rows.append([field(item, *probability) for item in candidates] if is_sequence(candidates) else [])
    known = is_sequence(chosen) and len(chosen) == len(rows)
    sampled = [field(item, *probability) for item in chosen] if known and is_sequence(chosen) else []
    return SequenceLogprobs(
        top_logprobs=_array(rows),
        tokens=_texts(chosen, "token") if known and is_sequence(chosen) else None,
        sampled_logprobs=_known(sampled, "chosen_candidates") if sampled else None,
    )


def _vllm(block: object) -> SequenceLogprobs | None:
    """VLLM offline: a list of ``{token_id: Logprob(logprob, rank, decoded_token)}``; rank decides nothing here."""
    if not is_sequence(block) or not isinstance(block[0], Mapping) or not block[0]:
        return None
    if not all(isinstance(key, int) for key in block[0]):
        return None
    return SequenceLogprobs(_array(block))


def _llama_cpp_probabilities(block: object) -> SequenceLogprobs | None:
    """llama.cpp's ``/completion`` with probabilities instead of logprobs (``probs``, ``top_probs``)."""
    if not is_sequence(block) or not has(block[0], "probs", "top_probs"):
        return None
    rows = []
    for position in block:
        alternatives = field(position, "top_probs", "probs")
        rows.append([field(item, "prob") for item in alternatives] if is_sequence(alternatives) else [])
    counts = _counts(rows)
    probabilities = _floats([*chain.from_iterable(rows)], "probabilities")
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() < np.inf):
        raise UnreadableLogprobs("a probability is negative, infinite or not a number")
    with np.errstate(divide="ignore"):
        return SequenceLogprobs(_padded(np.log(probabilities), counts), _texts(block, "token", "content"))


def _rows(block: object) -> SequenceLogprobs | None:
    """Bare rows: numbers (T x K, ragged allowed), or lists of LlamaIndex ``LogProb``."""
    if is_sequence(block) and (is_sequence(block[0]) or isinstance(block[0], np.ndarray)):
        return SequenceLogprobs(_array(block))
    return None


_READERS: tuple[Callable[[object], SequenceLogprobs | None], ...] = (
    _positions,
    _chat,
    _legacy,
    _google,
    _vllm,
    _llama_cpp_probabilities,
    _sampled_only,
    _rows,
)


def _array(rows: object) -> FloatArray:
    """(T, K) array out of one container of alternatives a position, padded with -inf."""
    if isinstance(rows, np.ndarray):
        return rows
    if not is_sequence(rows):
        raise UnreadableLogprobs(f"the alternatives are no list but {describe(rows)}")
    if not isinstance(rows, (list, tuple)):
        rows = list(rows)  # other containers may not support slices
    counts = _counts(rows)
    try:
        # Frozen, so that SequenceLogprobs does not copy it: nobody else holds this array.
        return frozen(_padded(_alternatives(rows, counts), counts))
    except (struct.error, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        raise UnreadableLogprobs(_fault(rows)) from error


def _counts(rows: Sequence[Any]) -> list[int]:
    """How many alternatives each position has, refused where it has none."""
    try:
        counts = [*map(len, rows)]
    except TypeError:  # some positions have None instead of an empty list
        for index, row in enumerate(rows):
            if row is not None and not _holds_alternatives(row):
                raise UnreadableLogprobs(_no_alternatives(row, index)) from None
        counts = [0 if row is None else len(row) for row in rows]
    if not any(counts):
        raise MissingLogprobs(f"no position has alternatives; {ASK}")
    if not all(counts):
        raise UnreadableLogprobs(f"position {counts.index(0)} of {len(counts)} has no alternatives")
    return counts


def _holds_alternatives(row: object) -> bool:
    return is_sequence(row) or isinstance(row, (Mapping, np.ndarray))


def _no_alternatives(row: object, index: int) -> str:
    return f"position {index} has {describe(row)} where a list of alternatives should be"


def _fault(rows: Sequence[Any]) -> str:
    """Which alternative cannot be read, for an error message."""
    for index, row in enumerate(rows):
        if not _holds_alternatives(row):
            return _no_alternatives(row, index)
        for place, item in enumerate(row.values() if isinstance(row, Mapping) else row):
            value = field(item, "logprob") if has(item, "logprob") else item
            if not isinstance(value, (int, float, np.number)):
                return f"top_logprobs[{index}, {place}] is no log-probability but {describe(value)}"
            if isinstance(value, int) and abs(value) > _LARGEST:
                return f"top_logprobs[{index}, {place}] is no log-probability: it is out of range"
    return "the positions do not all write their alternatives in the same way"


def _alternatives(rows: Sequence[Any], counts: Sequence[int]) -> FloatArray:
    """All alternatives' logprobs in order: (T, K) where every position has K of them, else (sum of counts,)."""
    first = rows[0]
    by_token = isinstance(first, Mapping)  # {token: logprob}, or vLLM's {token_id: Logprob}
    example = next(iter(first.values() if by_token else first))
    read: Callable[[Any], list[Any]]
    # Plain comprehensions: the interpreter reads a dict's item faster in one than through itemgetter and map.
    if isinstance(example, Mapping):
        read = lambda part: [item["logprob"] for row in part for item in row]  # noqa: E731
    elif has(example, "logprob"):
        read = lambda part: [item.logprob for row in part for item in row]  # noqa: E731
    else:
        read = lambda part: [item for row in part for item in row]  # noqa: E731
    numbers = np.empty((len(rows), counts[0]) if len(set(counts)) == 1 else sum(counts))
    offset = 0
    # In parts that fit into the processor's cache: a list of all numbers would need new memory of the same size.
    for start in range(0, len(rows), _POSITIONS_AT_ONCE):
        part = rows[start : start + _POSITIONS_AT_ONCE]
        offset += _pack(read([row.values() for row in part] if by_token else part), numbers, offset)
    return numbers


_POSITIONS_AT_ONCE = 64
_LARGEST = sys.float_info.max


def _known(values: Sequence[object], name: str) -> FloatArray | None:
    """(T,) float64, or None where a number is not given."""
    return None if None in values else _floats(values, name)


def _floats(values: Sequence[object], name: str) -> FloatArray:
    """(T,) float64 out of a list of numbers."""
    array = np.empty(len(values))
    try:
        _pack(values, array, 0)
    except (struct.error, ArithmeticError, TypeError) as error:
        kinds = ", ".join(sorted({describe(value) for value in values}))
        raise UnreadableLogprobs(f"{name} must be numbers that a float can hold; they are {kinds}") from error
    return frozen(array)


def _pack(values: Sequence[object], target: FloatArray, offset: int) -> int:
    """Write numbers into an array from a byte offset on; returns how many bytes.

    ``struct`` takes a list in half the time that numpy needs, and refuses strings and None where numpy would
    convert them.
    """
    struct.pack_into(f"{len(values)}d", target.data, offset, *values)
    return len(values) * target.itemsize


def _padded(numbers: FloatArray, counts: Sequence[int]) -> FloatArray:
    """(T, K), positions with fewer alternatives filled up with -inf."""
    if numbers.ndim == 2:
        return numbers
    width = max(counts)
    padded = np.full((len(counts), width), -np.inf)
    padded[np.arange(width) < np.asarray(counts)[:, None]] = numbers
    return padded


def _texts(positions: Sequence[object], *names: str) -> tuple[str, ...] | None:
    for name in names:
        if has(positions[0], name):
            return tuple(map(getter(positions[0], name), positions))
    return None
