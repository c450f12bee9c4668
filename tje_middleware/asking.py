"""How a draft is asked for: with logprobs unless its model refuses them, as a stream where it may be stopped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .capability import LogprobsCapabilities, is_refused_request
from .early_abort import RejectionWatch, obstacle_to_stopping
from .gate import EntropyGate


@dataclass(frozen=True)
class DraftRequest:
    """One request for a draft, as far as it concerns what its model refuses.

    A refusal is met where nothing but the model can have raised it: whatever stands around the model sees an answer,
    as it would without the gate.

    Example:
        >>> request = DraftRequest(LogprobsCapabilities(), "claude")
        >>> request.note_refusal(TypeError("unexpected keyword argument 'logprobs'"))
        >>> request.may_ask(), DraftRequest(request.capabilities, "other").may_ask()
        (False, True)

    Attributes:
        capabilities: Where refusals are remembered.
        model: The model that they are remembered for.
        has_tools: Whether tools are offered: llama.cpp, for one, refuses only streams of requests with tools.
    """

    capabilities: LogprobsCapabilities
    model: str
    has_tools: bool = False

    def may_ask(self, *, streamed: bool = False) -> bool:
        """Whether logprobs are to be asked for: unless such requests are known to be refused."""
        names = [self._name(streamed=False), *([self._name(streamed=True)] if streamed else [])]
        return not any(self.capabilities.refusal(name) for name in names)

    def may_be_stopped(self, gate: EntropyGate) -> bool:
        """Whether a stream that ends where the gate's rejection is sure may be asked for."""
        if self.has_tools and gate.on_missing != "deeper":
            return False  # a draft that ends in a call of tools is unknown, and may yet be accepted
        return self.may_ask(streamed=True)

    def note_refusal(self, error: Exception, *, streamed: bool = False) -> None:
        """Remember that asking for logprobs is what failed; the caller then asks again without.

        Raises:
            Exception: the error itself, where that is not what failed.
        """
        # Only a refusal that speaks of streams leaves it open whether others are answered.
        name = self._name(streamed=streamed and "stream" in str(error).lower())
        if not self.capabilities.note(name, error):
            raise error

    def note_refused_stream(self, error: Exception) -> None:
        """Remember that such a stream is refused, for its logprobs or for anything else; the caller asks unstreamed.

        Raises:
            Exception: the error itself, where that is not what failed.
        """
        of_streams = "stream" in str(error).lower()
        if self.capabilities.note(self._name(streamed=of_streams), error):
            return
        if not (of_streams and is_refused_request(error)):
            raise error
        self.capabilities.remember(self._name(streamed=True), error)

    def _name(self, *, streamed: bool) -> str:
        if not streamed:
            return self.model
        return f"{self.model} streamed with tools" if self.has_tools else f"{self.model} streamed"


def watch_for(
    gate: EntropyGate, *, limits: Iterable[object], model: str | None, temperature: float | None
) -> RejectionWatch | None:
    """What foresees the rejection of one draft; None where nothing can, which is said once.

    Args:
        gate: Whose rejection.
        limits: All that limits the draft's length (tokens), wherever it was set; what is no positive int is none.
        model: The model that writes the draft, where known.
        temperature: Its sampling temperature, where known.
    """
    # A proof needs the largest that may hold: which of several limits wins is the provider's business.
    limit = max((each for each in limits if isinstance(each, int) and each > 0), default=None)
    watch = gate.watch(max_tokens=limit, model=model, temperature=temperature)
    if watch.can_fire:
        return watch
    profile = gate.profile()
    obstacle = obstacle_to_stopping(profile.signal, max_tokens=limit) if profile is not None else None
    if obstacle is not None:
        gate.say_once("abort", f"mode='abort' cannot stop drafts, and holds them: {obstacle}")
    return None
