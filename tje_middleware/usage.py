"""What model calls spent, as far as their provider said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenUsage:
    """Tokens of one or more model calls; a sum of usages is a usage.

    Attributes:
        input_tokens: Tokens read (tokens).
        output_tokens: Tokens written (tokens), thinking included where the provider counts it.
        calls: Model calls that this covers.
        partly_known: How many of them did not say all: a draft that was stopped is known by what came of it. The
            numbers are then a lower bound.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    partly_known: int = 0

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.calls + other.calls,
            self.partly_known + other.partly_known,
        )

    @property
    def total_tokens(self) -> int:
        """Read and written together (tokens)."""
        return self.input_tokens + self.output_tokens


def counted(usage: TokenUsage | None) -> TokenUsage | None:
    """What was counted; None where nothing was, as of a client that no framework sees: 0 tokens would be a claim."""
    return None if usage == TokenUsage() else usage


def usage_of(input_tokens: int | None, output_tokens: int | None) -> TokenUsage:
    """The usage of one call, of which either number may not be known."""
    return TokenUsage(
        input_tokens=input_tokens or 0,
        output_tokens=output_tokens or 0,
        calls=1,
        partly_known=int(input_tokens is None or output_tokens is None),
    )
