"""What an answer that comes in chunks costs."""

from __future__ import annotations

from tje_middleware import TokenUsage
from tje_middleware.usage import usage_of

from .._answer import Response, decision_in, spent_on
from .._usage import Tokens, tokens_of


class StreamUsage:
    """Adds up a stream: what its provider says of it in the end; until then, or if it never does, a lower bound."""

    def __init__(self) -> None:
        self._written = 0
        self._said = Tokens()

    def after(self, chunk: Response) -> TokenUsage:
        """What the stream cost so far, with this chunk."""
        if decision_in(chunk) is not None:  # of a gated LLM, which knows
            return spent_on(chunk)
        self._written += int(bool(chunk.delta))
        said = tokens_of(chunk)
        if said != Tokens():
            self._said = said
        read, written = self._said
        if written is None:
            return TokenUsage(read or 0, self._written, calls=1, partly_known=1)
        return usage_of(read, written)
