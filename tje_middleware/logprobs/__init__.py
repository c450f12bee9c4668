"""Provider payloads -> :class:`SequenceLogprobs`.

``parse_logprobs`` reads what a provider or a framework returned; ``LogprobsAccumulator`` reads it chunk by
chunk from a stream. Both are duck-typed: no provider's SDK and no framework is imported.
"""

from .sequence import POSITIVE_TOLERANCE, ZERO_PROBABILITY, SequenceLogprobs, thinking_mask
from .stream import LogprobsAccumulator, parse_logprobs

__all__ = [
    "POSITIVE_TOLERANCE",
    "ZERO_PROBABILITY",
    "LogprobsAccumulator",
    "SequenceLogprobs",
    "parse_logprobs",
    "thinking_mask",
]
