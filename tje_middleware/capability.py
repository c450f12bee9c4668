"""Which models are known not to give logprobs: found out once, remembered, and not asked again."""

from __future__ import annotations

import threading

from .errors import MissingLogprobs, TjeError
from .evidence import without_advice

_RESPONSES_API = "Responses.create()"


class LogprobsCapabilities:
    """What models said when they refused to be asked for logprobs, for as long as this object lives.

    A model that ignores the request is not remembered: another kind of its answers may well come with logprobs, as
    with providers that give none for tool calls. Threads and event loops may share one.

    Example:
        >>> capabilities = LogprobsCapabilities()
        >>> capabilities.note("claude", TypeError("create() got an unexpected keyword argument 'logprobs'"))
        True
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

    def note(self, model: str, error: Exception) -> bool:
        """Remember an error if it says that asking for logprobs is what failed.

        Returns:
            Whether it did; the caller then asks again without, and otherwise raises the error.
        """
        if not is_refused_request(error) or "logprob" not in str(error).lower():
            return False
        self.remember(model, error)
        return True

    def remember(self, model: str, error: Exception) -> None:
        """Remember that such requests are refused, with the error that said so."""
        said = f"the provider refused to give logprobs ({type(error).__name__}): {str(error)[:200]}"
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

    def note_refused_usage(self, model: str, error: Exception) -> bool:
        """Remember an error if it says that asking a stream for what it costs is what failed.

        Returns:
            Whether it did; the caller then asks again without.
        """
        if not is_refused_request(error) or "stream_options" not in str(error).lower():
            return False
        with self._lock:
            self._refuse_usage |= {model}
        return True


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
