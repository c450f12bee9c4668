"""How a draft is asked for: with logprobs unless its model refuses them, as a stream where it may be stopped."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TypeVar

from ..errors import MissingLogprobs
from ..logprobs.evidence import without_advice
from .refusal import is_refused_request, may_refuse, speaks_of_streams, told

Answer = TypeVar("Answer")


@dataclass
class DraftRequest:
    """One request for a draft: whether to ask for logprobs, and what the model refused.

    The caller catches refusals directly around the model's call, so that retries and fallbacks around the model see
    an answer, as they would without the gate. An error that looks like a refusal may only quote the request. So the
    caller asks again without what may have been refused, and only an answer to that proves the refusal; where that
    request fails as well, its error is raised.

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
        model: The model whose refusals these are.
        has_tools: Whether tools are offered: llama.cpp, for one, refuses only streams of requests with tools.
    """

    capabilities: LogprobsCapabilities
    model: str
    has_tools: bool = False
    _unproven: dict[str, Exception] = field(default_factory=dict, init=False, repr=False)

    def may_ask(self, *, streamed: bool = False) -> bool:
        """Whether to ask for logprobs: False where this request was refused, or such requests are known to be."""
        names = [self._name(streamed=False), *([self._name(streamed=True)] if streamed else [])]
        return not any(name in self._unproven or self.capabilities.refusal(name) for name in names)

    def may_be_stopped(self, on_missing: str) -> bool:
        """Whether to ask for a stream that is stopped once the draft is sure to be rejected.

        Args:
            on_missing: The route that the gate gives to drafts that it cannot judge.
        """
        if self.has_tools and on_missing != "deeper":
            return False  # a draft that ends in a tool call may be one that cannot be judged, and then be accepted
        return self.may_ask(streamed=True)

    def note_refusal(self, error: Exception, *, streamed: bool = False) -> None:
        """Note that asking for logprobs may be what failed; the caller then asks again without.

        Raises:
            Exception: the error itself, where that is not what failed.
        """
        # Only a refusal that mentions streams leaves open whether other requests would be answered.
        if not may_refuse("logprob", error):
            raise error
        self._unproven[self._name(streamed=streamed and speaks_of_streams(error))] = error

    def note_refused_stream(self, error: Exception) -> None:
        """Note that such a stream may be refused, for its logprobs or anything else; the caller then does not stream.

        Raises:
            Exception: the error itself, where that is not what failed.
        """
        of_streams = speaks_of_streams(error)
        if not (may_refuse("logprob", error) or (of_streams and is_refused_request(error))):
            raise error
        self._unproven[self._name(streamed=of_streams)] = error

    def answered(self, answer: Answer) -> Answer:
        """Remember the refusals on the way to this answer, or to its first chunk; returns it."""
        for name, error in self._unproven.items():
            self.capabilities.remember(name, error)
        self._unproven = {}
        return answer

    def _name(self, *, streamed: bool) -> str:
        if not streamed:
            return self.model
        return f"{self.model} streamed with tools" if self.has_tools else f"{self.model} streamed"


class LogprobsCapabilities:
    """The models that refuse to give logprobs, with what they said.

    A model that ignores the request is not remembered: its other answers may come with logprobs, as with providers
    that give none for tool calls. Threads and event loops may share one object.

    Example:
        >>> capabilities = LogprobsCapabilities()
        >>> capabilities.remember("claude", TypeError("create() got an unexpected keyword argument 'logprobs'"))
        >>> capabilities.refusal("claude")
        "the provider refused to give logprobs (TypeError): create() got an unexpected keyword argument 'logprobs'"
    """

    def __init__(self) -> None:
        self._refusals: dict[str, str] = {}
        self._refuse_usage: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[dict[str, str], frozenset[str]]:
        # A lock cannot be pickled; the refusals can.
        return dict(self._refusals), self._refuse_usage

    def __setstate__(self, found_out: tuple[dict[str, str], frozenset[str]]) -> None:
        self._refusals, self._refuse_usage = found_out
        self._lock = threading.Lock()

    def refusal(self, model: str) -> str | None:
        """What the model said when it refused, with what to do about it; None where it never did."""
        return self._refusals.get(model)

    def any_refusal(self) -> str | None:
        """The refusal of any model, for answers whose model is not known by name."""
        return next(iter(self._refusals.values()), None)

    def explained(self, missing: MissingLogprobs, model: str | None, known: str | None = None) -> MissingLogprobs:
        """The error to use for an answer without logprobs, by a model that was asked for them.

        Args:
            missing: The error from reading the answer.
            model: The model that wrote it, where its name is known.
            known: The reason that the integration knows, where it knows one.
        """
        # Not every integration names its model; the refusal of any model of this gate is then the likeliest reason.
        refusal = self.refusal(model) if model else self.any_refusal()
        if refusal is not None or known is not None:
            return MissingLogprobs(refusal or known)
        return MissingLogprobs(f"{without_advice(missing)}; the model was asked for them")

    def remember(self, model: str, error: Exception) -> None:
        """Remember that such requests are refused, with the error that said so."""
        with self._lock:
            self._refusals[model] = told(error)

    def may_ask_usage(self, model: str) -> bool:
        """Whether to ask for the usage of a stream: False where that was refused."""
        return model not in self._refuse_usage

    def remember_refused_usage(self, model: str) -> None:
        """Remember that the model refuses streams that are asked for their usage."""
        with self._lock:
            self._refuse_usage |= {model}
