"""SequenceLogprobs, which all payloads are read into, and checks that it covers the answer's text."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MissingLogprobs, UnreadableLogprobs
from .arrays import BoolArray, FloatArray

T = TypeVar("T")
ArrayT = TypeVar("ArrayT", bound=NDArray[Any])

#: A logprob may exceed 0 by this much (nats): rounding in half precision, or to four decimals.
POSITIVE_TOLERANCE = 1e-3
#: At or below this logprob (nats) a probability is zero: OpenAI and vLLM write -9999.0 for minus infinity.
ZERO_PROBABILITY = -9999.0

# Tokens may spell this many characters fewer than the text without any token being lost.
_TOLERATED_GAP = 2


@dataclass(frozen=True, eq=False)
class SequenceLogprobs:
    """The log-probabilities of one generated sequence of T tokens with up to K alternatives each.

    Attributes:
        top_logprobs: (T, K) float64, natural log, one row a position, the alternatives in any order.
            Positions with fewer than K alternatives are padded with ``-inf``. Read-only.
        tokens: The T sampled tokens as text, or None where the payload does not name them.
        sampled_logprobs: (T,) float64, natural log, of the sampled tokens, or None where unknown. Read-only.
        marked_thinking: (T,) bool, True where the provider itself marks a token as thinking, or None
            where it marks nothing and ``<think>`` tags in the text decide. Read-only.

    Raises:
        UnreadableLogprobs: NaN, +inf, a logprob above 0 by more than a rounding error, a position without
            any probability, or lengths that do not agree.
    """

    top_logprobs: FloatArray
    tokens: tuple[str, ...] | None = None
    sampled_logprobs: FloatArray | None = None
    marked_thinking: BoolArray | None = None

    def __post_init__(self) -> None:
        top = _logprob_array(self.top_logprobs, "top_logprobs")
        if top.ndim != 2:
            raise UnreadableLogprobs(
                f"top_logprobs must have two dimensions (positions x alternatives), not shape {top.shape}"
            )
        if top.size == 0 and len(top):
            raise UnreadableLogprobs(f"none of the {len(top)} positions has an alternative")
        if top.size and top.min() == -np.inf:
            _refuse_positions_without_probability(top)
        object.__setattr__(self, "top_logprobs", top)
        if self.tokens is not None:
            object.__setattr__(self, "tokens", _texts(self.tokens))
        if self.sampled_logprobs is not None:
            sampled = _logprob_array(self.sampled_logprobs, "sampled_logprobs").reshape(-1)
            object.__setattr__(self, "sampled_logprobs", sampled)
        if self.marked_thinking is not None:
            object.__setattr__(self, "marked_thinking", _marks(self.marked_thinking))
        for name in ("tokens", "sampled_logprobs", "marked_thinking"):
            value = getattr(self, name)
            if value is not None and len(value) != len(top):
                raise UnreadableLogprobs(f"{name} has {len(value)} entries, but there are {len(top)} positions")

    def __reduce__(self) -> tuple[Any, ...]:
        # numpy forgets on the way through pickle and copy that an array is read-only.
        return type(self), (self.top_logprobs, self.tokens, self.sampled_logprobs, self.marked_thinking)

    def __len__(self) -> int:
        """Number of positions T (tokens)."""
        return len(self.top_logprobs)

    def __repr__(self) -> str:
        return f"SequenceLogprobs({len(self)} tokens x {self.top_k} alternatives)"

    @property
    def top_k(self) -> int:
        """The largest number of alternatives that any position has (K)."""
        return int(self.top_logprobs.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """(T,) how many alternatives of non-zero probability each position has."""
        return np.asarray((self.top_logprobs > -np.inf).sum(axis=1), dtype=np.int64)

    @property
    def text(self) -> str | None:
        """The tokens joined, or None where the payload does not name them."""
        return None if self.tokens is None else self.once(_joined)

    @property
    def thinking_mask(self) -> BoolArray:
        """(T,) bool, True for tokens of thinking; the tags themselves count as thinking. Read-only."""
        return self.once(_thinking_mask)

    @property
    def thinking(self) -> SequenceLogprobs:
        """The thinking tokens alone; empty where nothing is marked as thinking."""
        return self.once(_thinking)

    @property
    def answer(self) -> SequenceLogprobs:
        """The answer tokens alone; the sequence itself where nothing is marked as thinking."""
        # Without thinking the answer is the sequence itself, which ``once`` must not keep: a sequence that refers to
        # itself stays in memory until the garbage collector runs.
        return self.once(_answer) if self.thinking_mask.any() else self

    def once(self, function: Callable[[SequenceLogprobs], T]) -> T:
        """``function(self)``, computed the first time it is asked for and kept with the sequence.

        So several signals share what they need. Copies and pickles start without it. Two threads that ask
        at the same time may both compute, and get the same value.

        Args:
            function: A pure function that lives as long as the process, not one made for each call. What it
                returns is shared: best read-only, and never the sequence itself.
        """
        kept: dict[Hashable, T] = self.__dict__.setdefault("_kept", {})
        try:
            return kept[function]
        except KeyError:
            # Where two threads compute it, both return the value that was kept first.
            return kept.setdefault(function, function(self))

    def take(self, mask: BoolArray) -> SequenceLogprobs:
        """The positions where ``mask`` (T,) is True, in order."""
        return SequenceLogprobs(
            top_logprobs=self.top_logprobs[mask],
            tokens=None if self.tokens is None else tuple(compress(self.tokens, mask.tolist())),
            sampled_logprobs=None if self.sampled_logprobs is None else self.sampled_logprobs[mask],
            marked_thinking=None if self.marked_thinking is None else self.marked_thinking[mask],
        )

    def truncated(self, top_k: int) -> SequenceLogprobs:
        """The ``top_k`` most probable alternatives of each position; itself where it has no more.

        A server may send one more than asked (the sampled token) or a caller may ask for more than a
        profile was calibrated with; entropies compare only over the same number of alternatives.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        if self.top_k <= top_k:
            return self
        kept = self.once(_truncations)
        if top_k not in kept:
            top = np.partition(self.top_logprobs, self.top_k - top_k, axis=1)[:, self.top_k - top_k :]
            kept[top_k] = SequenceLogprobs(top, self.tokens, self.sampled_logprobs, self.marked_thinking)
        return kept[top_k]

    @classmethod
    def concatenate(cls, parts: Sequence[SequenceLogprobs]) -> SequenceLogprobs:
        """The parts one after the other; tokens and sampled logprobs are None unless every part has them."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls(np.empty((0, 0)))
        width = max(part.top_k for part in parts)
        top = np.full((sum(map(len, parts)), width), -np.inf)
        start = 0
        for part in parts:
            top[start : start + len(part), : part.top_k] = part.top_logprobs
            start += len(part)
        tokens = [part.tokens for part in parts if part.tokens is not None]
        sampled = [part.sampled_logprobs for part in parts if part.sampled_logprobs is not None]
        marks = any(part.marked_thinking is not None for part in parts)
        return cls(
            top_logprobs=top,
            tokens=tuple(text for part in tokens for text in part) if len(tokens) == len(parts) else None,
            sampled_logprobs=np.concatenate(sampled) if len(sampled) == len(parts) else None,
            marked_thinking=np.concatenate([part.thinking_mask for part in parts]) if marks else None,
        )


def covered_characters(sequence: SequenceLogprobs) -> int | None:
    """How much text the tokens spell; None where they are not known."""
    # A token that is part of a character may be written as an empty text.
    return None if sequence.tokens is None else sum(map(len, sequence.tokens)) + sequence.tokens.count("")


def without_end(sequence: SequenceLogprobs) -> SequenceLogprobs:
    """The sequence without an end-of-turn token, which llama.cpp lists with an empty text unless it streams."""
    if len(sequence) > 1 and sequence.tokens is not None and not sequence.tokens[-1]:
        return sequence.take(np.arange(len(sequence)) < len(sequence) - 1)
    return sequence


def refuse_partial_cover(sequence: SequenceLogprobs, length: int) -> None:
    """Refuse logprobs that cover less than half of a text of ``length`` characters.

    A framework that merges a stream may keep the logprobs of its last chunk only.
    """
    if len(sequence.text or "") >= length / 2:
        return  # the usual case, without looking at each token
    covered = covered_characters(sequence)
    if covered is not None and covered < length / 2 and length - covered > _TOLERATED_GAP:
        raise UnreadableLogprobs(
            f"the logprobs cover {covered} of {length} characters of the text, so some were lost on the way; "
            "collect them chunk by chunk with LogprobsAccumulator, or do not stream this call"
        )


def refuse_silent_tool_call(sequence: SequenceLogprobs, length: int) -> None:
    """Refuse logprobs that cover only the text of a message, and not the tool call that it makes."""
    covered = covered_characters(sequence)
    if covered is not None and covered <= length + _TOLERATED_GAP:
        raise MissingLogprobs("the message makes a tool call, and the provider sent logprobs only for its text")


def _joined(sequence: SequenceLogprobs) -> str:
    return "".join(sequence.tokens or ())


def _thinking_mask(sequence: SequenceLogprobs) -> BoolArray:
    if sequence.marked_thinking is not None:
        return sequence.marked_thinking
    if sequence.tokens is None:
        return _marks(np.zeros(len(sequence), dtype=np.bool_))
    return _marks(thinking_mask(sequence.tokens))


def _thinking(sequence: SequenceLogprobs) -> SequenceLogprobs:
    return sequence.take(sequence.thinking_mask)


def _answer(sequence: SequenceLogprobs) -> SequenceLogprobs:
    return sequence.take(~sequence.thinking_mask)


def _truncations(_sequence: SequenceLogprobs) -> dict[int, SequenceLogprobs]:
    """Where a sequence keeps its truncated forms, by their ``top_k``."""
    return {}


def _texts(tokens: Sequence[str]) -> tuple[str, ...]:
    try:
        "".join(tokens)
    except TypeError as error:
        raise UnreadableLogprobs(f"tokens must be texts: {error}") from error
    return tuple(tokens)


def _marks(values: ArrayLike) -> BoolArray:
    return frozen(np.array(values, dtype=np.bool_).reshape(-1))


def _logprob_array(values: ArrayLike, name: str) -> FloatArray:
    """A read-only float64 array of valid logprobs that nobody else can change, zero probabilities as -inf."""
    array = _float_array(values, name)
    if array.size:
        largest = array.max()
        # NaN compares false with everything, so the accepting comparison is the one to write.
        if not largest <= POSITIVE_TOLERANCE:
            raise UnreadableLogprobs(_refusal(array, name))
        if array.min() <= ZERO_PROBABILITY:
            return frozen(np.where(array <= ZERO_PROBABILITY, -np.inf, array))
    # An array that can be written may belong to the caller, and a view shares its memory with another array: freezing
    # either would change the caller's array, and the caller could later change this one. So both are copied.
    return frozen(array.copy()) if array.flags.writeable or not array.flags.owndata else array


def frozen(array: ArrayT) -> ArrayT:
    """The array itself, read-only from now on."""
    array.flags.writeable = False
    return array


def _float_array(values: ArrayLike, name: str) -> FloatArray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableLogprobs(
            f"{name} is no array of numbers: fill positions with fewer alternatives up with -inf"
        ) from error
    if array.dtype.kind not in "fiub":  # numpy would read texts as numbers, and None as NaN
        raise UnreadableLogprobs(f"{name} is no array of numbers but of {array.dtype.name}")
    return array.astype(np.float64, copy=False)


def _refusal(array: FloatArray, name: str) -> str:
    """What is wrong with the first bad number, and where."""
    bad = np.argwhere(~(array <= POSITIVE_TOLERANCE))[0]
    value = array[tuple(bad)]
    came = array[array != -np.inf]
    hint = ""
    if np.all((came >= 0) & (came <= 1)):
        hint = "; these look like probabilities: take their natural logarithm"
    return f"{name}[{', '.join(map(str, bad))}] is {value}, which is no log-probability (at most 0){hint}"


def _refuse_positions_without_probability(top: FloatArray) -> None:
    empty = np.flatnonzero(top.max(axis=1) == -np.inf)
    if len(empty):
        raise UnreadableLogprobs(
            f"position {empty[0]} has no alternative of non-zero probability ({len(empty)} such of {len(top)})"
        )


# A chat template may open the block in the prompt, so that only its end is generated; a token limit may
# cut it off, so that only its beginning is.
_THINKING = re.compile(
    r"\A(?:(?!<think(?:ing)?>).)*?</think(?:ing)?>|<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL
)


def thinking_mask(tokens: Sequence[str], reasoning: str | None = None) -> NDArray[np.bool_]:
    """Mark the tokens that belong to thinking.

    Args:
        tokens: The T tokens as text.
        reasoning: What the provider says was thought, where it returns that text apart from the answer.

    Returns:
        (T,) bool. True for every token that touches ``<think>...</think>`` (tags included), or that
        spells ``reasoning`` where the text has no tags and begins with it.
    """
    mask = np.zeros(len(tokens), dtype=np.bool_)
    text = "".join(tokens)
    spans = [match.span() for match in _THINKING.finditer(text)] if "think" in text else []
    if not spans and reasoning:
        lead = len(text) - len(text.lstrip())
        if text[lead:].startswith(reasoning.strip()):
            spans = [(0, lead + len(reasoning.strip()))]
    if not spans:
        return mask
    ends = np.cumsum([len(token) for token in tokens])
    starts = ends - [len(token) for token in tokens]
    for begin, end in spans:
        mask |= (starts < end) & (ends > begin)
    return mask
