"""In which arguments an LLM takes the question for logprobs, and for the usage of a stream; and what it is set to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms import LLM

#: An LLM's two ways of being asked.
Kind = Literal["chat", "complete"]
#: The arguments of one request.
Settings = Mapping[str, Any]

_OF_RESPONSES = "message.output_text.logprobs"
_LOGPROBS = ("logprobs", "top_logprobs")
_UNNAMED = "unknown"  # LlamaIndex's word for models without a name


@dataclass(frozen=True)
class Asking:
    """How one LLM is asked: by its provider's own arguments.

    An LLM whose class is not known here is asked as OpenAI's chat completions are, which most providers took over.

    Attributes:
        llm: The LLM.
        top_k: Alternatives a token.
        given: The very arguments to ask with, where a caller gave them; None for those of the provider.
    """

    llm: LLM
    top_k: int
    given: Settings | None = None

    def for_logprobs(self, settings: Settings) -> dict[str, Any]:
        """A request's settings with the question for logprobs; one that asks for more already stays so."""
        if self.given is not None:
            return {**settings, **self.given}
        top_k = max(self.top_k, _alternatives(settings))
        if _is(self.llm, "OpenAIResponses"):
            include = [*(settings.get("include") or getattr(self.llm, "include", None) or ()), _OF_RESPONSES]
            return {**settings, "include": list(dict.fromkeys(include)), "top_logprobs": top_k}
        if _is(self.llm, "GoogleGenAI"):
            own = {"response_logprobs": True, "logprobs": top_k}
            return {**settings, "generation_config": {**(settings.get("generation_config") or {}), **own}}
        if _is(self.llm, "OpenAI") and not self.llm.metadata.is_chat_model:
            return {**settings, "logprobs": top_k}  # completions have one number in the place of both
        return {**settings, "logprobs": True, "top_logprobs": top_k}


def tells_usage_when_asked(llm: LLM, settings: Settings) -> bool:
    """Whether a stream has to be asked for what it costs, and is not yet."""
    return _is(llm, "OpenAI") and llm.metadata.is_chat_model and "stream_options" not in settings


def with_usage(settings: Settings) -> dict[str, Any]:
    """A stream's settings with the question for what it costs."""
    return {**settings, "stream_options": {"include_usage": True}}


def asking_for_itself(llm: LLM) -> bool:
    """Whether an LLM was made to ask for logprobs by its own settings."""
    return bool(getattr(llm, "logprobs", None)) or "logprobs" in _additional(llm)


def without_own_asking(llm: LLM) -> LLM:
    """The LLM, or a copy that does not ask for logprobs by itself: LLMs prefer their own settings to a request's."""
    if not asking_for_itself(llm):
        return llm
    rest = without_asking(_additional(llm))
    fields = type(llm).model_fields
    own = {"logprobs": None} if "logprobs" in fields else {}
    return llm.model_copy(update={**own, **({"additional_kwargs": rest} if "additional_kwargs" in fields else {})})


def asks_for_logprobs(settings: Settings) -> bool:
    """Whether a request's own settings ask for logprobs."""
    return bool(settings.get("logprobs")) or _OF_RESPONSES in (settings.get("include") or ())


def asking_of(settings: Settings) -> dict[str, Any]:
    """The part of a request's settings that asks for logprobs."""
    return {name: settings[name] for name in (*_LOGPROBS, "include") if name in settings}


def without_asking(settings: Settings) -> dict[str, Any]:
    """The settings without those that ask for logprobs, for an LLM that is asked anyway."""
    rest = {name: value for name, value in settings.items() if name not in _LOGPROBS}
    included = [each for each in settings.get("include") or () if each != _OF_RESPONSES]
    return {**rest, "include": included} if included else {k: v for k, v in rest.items() if k != "include"}


def model_of(llm: BaseLLM, settings: Settings) -> str | None:
    """The model that a request asks for; None where the LLM has no name for it."""
    named = setting_of(llm, settings, "model") or llm.metadata.model_name
    return named if isinstance(named, str) and named != _UNNAMED else None


def temperature_of(llm: BaseLLM, settings: Settings) -> float | None:
    """A request's sampling temperature; None where nobody says."""
    temperature = setting_of(llm, settings, "temperature")
    return float(temperature) if isinstance(temperature, (int, float)) else None


def limits_of(llm: BaseLLM, settings: Settings) -> list[object]:
    """All that limits the length of a request's answer (tokens), wherever it was set."""
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "n_predict")
    return [setting_of(llm, settings, name) for name in names]


def setting_of(llm: BaseLLM, settings: Settings, name: str) -> object:
    """What a request is sent with under a name, by the order in which OpenAI's class looks."""
    for place in (_additional(llm), settings):
        if place.get(name) is not None:
            return place[name]
    return getattr(llm, name, None)


def _alternatives(settings: Settings) -> int:
    asked = settings.get("top_logprobs")
    return asked if isinstance(asked, int) else 0


def _additional(llm: BaseLLM) -> Mapping[str, Any]:
    own = getattr(llm, "additional_kwargs", None)
    return own if isinstance(own, dict) else {}


def _is(llm: BaseLLM, name: str) -> bool:
    """Whether the LLM is of an integration's class, which need not be installed."""
    return any(
        each.__name__ == name and each.__module__.startswith("llama_index.llms.") for each in type(llm).__mro__
    )
