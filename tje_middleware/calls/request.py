"""How a draft is asked for: with logprobs unless its model refuses them, as a stream where it may be stopped."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from ..errors import MissingLogprobs, TjeError
from ..logprobs.evidence import without_advice

_RESPONSES_API = "Responses.create()"
_SENTENCE_ENDS = re.compile(r"""[?!{}\[\]\n]|\\n|\.(?=["'\s]|$)""")
_CLAUSE_ENDS = re.compile(r"[,;:]| - ")
_SAYS_NO = re.compile(
    r"\b(?:no|not|cannot|\w+n't|un(?:supported|known|expected|recognized|available)|invalid|incompatible|disabled)\b",
    re.IGNORECASE,
)
_LONGEST = 120  # characters of a clause

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

    def may_be_stopped(self, on_missing: str) -> bool:
        """Whether a stream that ends where the gate's rejection is sure may be asked for.

        Args:
            on_missing: The route that the gate gives to drafts that it cannot judge.
        """
        if self.has_tools and on_missing != "deeper":
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


class LogprobsCapabilities:
    """What models said when they refused to be asked for logprobs, for as long as this object lives.

    A model that ignores the request is not remembered: another kind of its answers may well come with logprobs, as
    with providers that give none for tool calls. Threads and event loops may share one.

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
        # A lock cannot go to another process; what was found out can.
        return dict(self._refusals), self._refuse_usage

    def __setstate__(self, found_out: tuple[dict[str, str], frozenset[str]]) -> None:
        self._refusals, self._refuse_usage = found_out
        self._lock = threading.Lock()

    def refusal(self, model: str) -> str | None:
        """What the model said when it refused, with what to do about it; None where it never did."""
        return self._refusals.get(model)

    def any_refusal(self) -> str | None:
        """What any model said: for answers whose model is not known by name."""
        return next(iter(self._refusals.values()), None)

    def explained(self, missing: MissingLogprobs, model: str | None, known: str | None = None) -> MissingLogprobs:
        """Why an answer has no logprobs, as far as that can be known of a model that was asked for them.

        Args:
            missing: What the answer itself says.
            model: The model that wrote it, where its name is known.
            known: What whoever asked it knows of such an answer.
        """
        # Not every integration names its model; what any model of this gate said is then the best there is.
        refusal = self.refusal(model) if model else self.any_refusal()
        if refusal is not None or known is not None:
            return MissingLogprobs(refusal or known)
        return MissingLogprobs(f"{without_advice(missing)}; the model was asked for them")

    def remember(self, model: str, error: Exception) -> None:
        """Remember that such requests are refused, with the error that said so."""
        said = f"the provider refused to give logprobs ({type(error).__name__})"
        quoted = _quotable(error)
        if quoted:
            said = f"{said}: {quoted}"
        if _RESPONSES_API in said:
            said = (
                "the Responses API client takes no logprobs, and LangChain drops those that it returns: "
                "set use_responses_api=False on the draft's model (chat completions give them)"
            )
        with self._lock:
            self._refusals[model] = said

    def may_ask_usage(self, model: str) -> bool:
        """Whether a stream may be asked for what it costs: unless that was refused."""
        return model not in self._refuse_usage

    def remember_refused_usage(self, model: str) -> None:
        """Remember that a stream that is asked for what it costs is refused."""
        with self._lock:
            self._refuse_usage |= {model}


def may_refuse(what: str, error: Exception) -> bool:
    """Whether an error may say that an argument of a request is what was wrong.

    It may as well only quote the request, as servers do that tell what they could not read: the argument was refused
    once the same request without it is answered.

    Args:
        what: What the argument is called, or a part of that.
        error: What was raised.
    """
    return is_refused_request(error) and what in str(error).lower()


def sentence_that_refuses(error: Exception) -> str:
    """The first sentence of an error that refuses logprobs, apart from what it may quote; empty where none does."""
    return _first_that_refuses(_SENTENCE_ENDS.split(str(error)))


def is_refused_request(error: Exception) -> bool:
    """Whether an error says that a request's form is what was wrong, by the client's signature or by its status.

    Other errors may quote a prompt that happens to speak of what was asked for.
    """
    if isinstance(error, TjeError):
        return False
    response = getattr(error, "response", None)
    status = (
        getattr(error, "status_code", None) or getattr(error, "code", None) or getattr(response, "status_code", None)
    )
    return isinstance(error, TypeError) or status in {400, 422}


def _quotable(error: Exception) -> str:
    """What may stand in decisions of what an error says: it may quote the request, and with it the user's prompt."""
    if isinstance(error, TypeError):  # says what a signature takes, and nothing of what was passed
        return str(error)[:200]
    clause = _first_that_refuses(_CLAUSE_ENDS.split(sentence_that_refuses(error)))
    return _without_loose_quotes(clause.strip())[:_LONGEST]


def _first_that_refuses(texts: Iterable[str]) -> str:
    return next((text for text in texts if "logprob" in text.lower() and _SAYS_NO.search(text)), "")


def _without_loose_quotes(clause: str) -> str:
    """A clause without the quotation mark of a text that it was cut from."""
    for mark in ('"', "'"):
        if clause.count(mark) % 2:
            clause = clause.strip(mark)
    return clause


def _speaks_of_streams(error: Exception) -> bool:
    """Whether it is streams that an error refuses; a request for one that is quoted beside that says nothing."""
    return "stream" in (sentence_that_refuses(error) or str(error)).lower()
