"""Which errors of a client or a provider refuse to give logprobs, and what may be told of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..errors import TjeError

_RESPONSES_API = "Responses.create()"
_SENTENCE_ENDS = re.compile(r"""[?!{}\[\]\n]|\\n|\.(?=["'\s]|$)""")
_CLAUSE_ENDS = re.compile(r"[,;:]| - ")
_SAYS_NO = re.compile(
    r"\b(?:no|not|cannot|\w+n't|un(?:supported|known|expected|recognized|available)|invalid|incompatible|disabled)\b",
    re.IGNORECASE,
)
_LONGEST_CLAUSE = 120  # characters
_LONGEST_SENTENCE = 240
_LIMIT = re.compile(
    r"(?:max(?:imum)?(?: allowed| value)?(?: of)?:? ?|at most |less than or equal to |between \d+ and |up to )(\d+)",
    re.IGNORECASE,
)
#: A request of another form is answered: bad, forbidden, not to be processed, not implemented.
_REFUSING = frozenset({400, 403, 422, 501})


def may_refuse(what: str, error: Exception) -> bool:
    """Whether an error may say that an argument of a request is what was wrong.

    The error may also only quote the request. The argument was refused if the same request without it is answered.

    Args:
        what: The name of the argument, or a part of it, in lower case.
        error: The error that was raised.
    """
    return is_refused_request(error) and what in str(error).lower()


def is_refused_request(error: Exception) -> bool:
    """Whether an error says that the form of a request is wrong: the client's own, or status 400, 403, 422 or 501.

    Other errors may quote a prompt that happens to contain the name of an argument.
    """
    if isinstance(error, TjeError):
        return False
    return isinstance(error, TypeError) or _is_validation(error) or _status(error) in _REFUSING


def sentence_that_refuses(error: Exception) -> str:
    """The first sentence of an error that refuses logprobs, without the request that it may quote; empty: none."""
    return _first_that_refuses(_SENTENCE_ENDS.split(str(error)))


def speaks_of_streams(error: Exception) -> bool:
    """Whether an error refuses streams; a mention of streams in a quoted request does not count."""
    return "stream" in (sentence_that_refuses(error) or str(error)).lower()


def told(error: Exception) -> str:
    """What decisions say of a refusal, and what to do about it where that is known."""
    kind = type(error).__name__
    limit = alternatives_limit(error)
    if limit is not None:
        return (
            f"the provider gives at most {limit} alternatives a position ({kind}): {_quotable(error)}; "
            f"calibrate and gate with top_k={limit}"
        )
    quoted = _quotable(error)
    if _RESPONSES_API in quoted:
        return (
            "the Responses API client takes no logprobs, and LangChain drops those that it returns: "
            "set use_responses_api=False on the draft's model (chat completions give them)"
        )
    said = f"the provider refused to give logprobs ({kind})"
    return f"{said}: {quoted}" if quoted else said


def alternatives_limit(error: Exception) -> int | None:
    """How many alternatives a provider gives at most, where an error says that more were asked for."""
    for text in (_message(error), str(error)):
        if "logprob" in (text or "").lower() and (found := _LIMIT.search(text or "")):
            limit = int(found[1])
            return limit if limit > 0 else None
    return None


def _status(error: Exception) -> object:
    response = getattr(error, "response", None)
    return (
        getattr(error, "status_code", None) or getattr(error, "code", None) or getattr(response, "status_code", None)
    )


def _is_validation(error: Exception) -> bool:
    """Whether a client has refused an argument by its own model of a request (pydantic, of either version)."""
    return type(error).__name__ == "ValidationError" and callable(getattr(error, "errors", None))


def _quotable(error: Exception) -> str:
    """The part of an error's text that decisions may hold: the rest may quote the user's prompt."""
    if isinstance(error, TypeError):  # it names arguments and never quotes their values
        return str(error)[:200]
    message = _message(error)
    if message is not None:  # what the provider itself says, without the request around it
        sentences = [text.strip() for text in _SENTENCE_ENDS.split(message) if "logprob" in text.lower()]
        return sentences[0][:_LONGEST_SENTENCE] if sentences else ""
    clause = _first_that_refuses(_CLAUSE_ENDS.split(sentence_that_refuses(error))).strip()
    for mark in ('"', "'"):
        if clause.count(mark) % 2:  # the other half of the quotation was cut off
            clause = clause.strip(mark)
    return clause[:_LONGEST_CLAUSE]


def _message(error: Exception) -> str | None:
    """The provider's own words, where an error keeps them apart; None where it does not."""
    if _is_validation(error):
        told = [(item.get("loc", ()), item.get("msg", "")) for item in error.errors()]  # type: ignore[attr-defined]
        return "\n".join(f"{'.'.join(map(str, place))}: {text}" for place, text in told)
    body = getattr(error, "body", None)
    if isinstance(body, str):
        return body
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    if isinstance(inner, str):
        return inner
    message = inner.get("message") if isinstance(inner, Mapping) else None
    if isinstance(message, str):
        return message
    details = inner.get("detail") if isinstance(inner, Mapping) else None
    if isinstance(details, list):
        items = [item for item in details if isinstance(item, Mapping)]
        return "\n".join(f"{'.'.join(map(str, item.get('loc', ())))}: {item.get('msg', '')}" for item in items)
    return None


def _first_that_refuses(texts: Iterable[str]) -> str:
    return next((text for text in texts if "logprob" in text.lower() and _SAYS_NO.search(text)), "")
