"""How a draft is asked for: with logprobs unless its model refuses them, as a stream where it may be stopped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from ..calls.capabilities import LogprobsCapabilities, is_refused_request, may_refuse, sentence_that_refuses
from .gate import EntropyGate
from .stopping.watch import RejectionWatch, obstacle_to_stopping

Answer = TypeVar("Answer")


@dataclass
class DraftRequest:
    """One request for a draft, as far as it concerns what its model refuses.

    A refusal is met where nothing but the model can have raised it: whatever stands around the model sees an answer,
    as it would without the gate. What looks like one may be an error that only quotes the request. So the caller asks
    again for less, and only an answer to that proves the refusal; where that fails too, its error is raised.

    Example:
        >>> request = DraftRequest(LogprobsCapabilities(), "claude")
        >>> request.note_refusal(TypeError("unexpected keyword argument 'logprobs'"))
        >>> request.may_ask(), DraftRequest(request.capabilities, "claude").may_ask()
        (False, True)
        >>> request.answered("the answer without logprobs")
        'the answer without logprobs'
        >>> DraftRequest(request.capabilities, "claude").may_ask()
        False

    Attributes:
        capabilities: Where refusals are remembered.
        model: The model that they are remembered for.
        has_tools: Whether tools are offered: llama.cpp, for one, refuses only streams of requests with tools.
    """

    capabilities: LogprobsCapabilities
    model: str
    has_tools: bool = False
    _unproven: dict[str, Exception] = field(default_factory=dict, init=False, repr=False)

    def may_ask(self, *, streamed: bool = False) -> bool:
        """Whether logprobs are to be asked for: unless this was refused, or such requests are known to be."""
        names = [self._name(streamed=False), *([self._name(streamed=True)] if streamed else [])]
        return not any(name in self._unproven or self.capabilities.refusal(name) for name in names)

    def may_be_stopped(self, gate: EntropyGate) -> bool:
        """Whether a stream that ends where the gate's rejection is sure may be asked for."""
        if self.has_tools and gate.policies.on_missing != "deeper":
            return False  # a draft that ends in a call of tools is unknown, and may yet be accepted
        return self.may_ask(streamed=True)

    def note_refusal(self, error: Exception, *, streamed: bool = False) -> None:
        """Note that asking for logprobs may be what failed; the caller then asks again without.

        Raises:
            Exception: the error itself, where that is not what failed.
        """
        # Only a refusal that speaks of streams leaves it open whether others are answered.
        if not may_refuse("logprob", error):
            raise error
        self._unproven[self._name(streamed=streamed and _speaks_of_streams(error))] = error

    def note_refused_stream(self, error: Exception) -> None:
        """Note that such a stream may be refused, for its logprobs or for anything else; the caller asks unstreamed.

        Raises:
            Exception: the error itself, where that is not what failed.
        """
        of_streams = _speaks_of_streams(error)
        if not (may_refuse("logprob", error) or (of_streams and is_refused_request(error))):
            raise error
        self._unproven[self._name(streamed=of_streams)] = error

    def answered(self, answer: Answer) -> Answer:
        """The answer, or the first chunk of it, after which what was refused on the way to it is remembered."""
        for name, error in self._unproven.items():
            self.capabilities.remember(name, error)
        self._unproven = {}
        return answer

    def _name(self, *, streamed: bool) -> str:
        if not streamed:
            return self.model
        return f"{self.model} streamed with tools" if self.has_tools else f"{self.model} streamed"


def _speaks_of_streams(error: Exception) -> bool:
    """Whether it is streams that an error refuses; a request for one that is quoted beside that says nothing."""
    return "stream" in (sentence_that_refuses(error) or str(error)).lower()


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
