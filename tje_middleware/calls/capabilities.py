"""Which models are known not to give logprobs: found out once, remembered, and not asked again."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

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
