"""Of the settings of one request to two chat models: what each of them gets, and what is said of both together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from .._named import named_model

_LOGPROBS = ("logprobs", "top_logprobs")
#: LangChain takes these out of a request before a model's own code sees it.
_OF_TRACES = ("ls_structured_output_format", "structured_output_format")


@dataclass(frozen=True)
class EachOwn:
    """Settings that two models were given in forms of their own, such as tools.

    Attributes:
        draft: The draft's form; a binding carries it, and whoever looks into a request sees it.
        deeper: The deeper model's form.
    """

    draft: Mapping[str, Any] = field(default_factory=dict)
    deeper: Mapping[str, Any] = field(default_factory=dict)

    def for_deeper(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A request's settings as the deeper model gets them: its own form of what was bound, and all else.

        What was set to something else after the binding holds for both models. A request that comes around the
        binding has nothing bound.
        """
        if self.draft and not any(name in settings for name in self.draft):
            return dict(settings)
        nothing = object()
        rest = {name: value for name, value in settings.items() if self.draft.get(name, nothing) != value}
        own = {name: value for name, value in self.deeper.items() if name not in _OF_TRACES}
        return {**own, **rest}


def without_asking(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that ask for logprobs, for a model that is asked anyway."""
    return {name: value for name, value in settings.items() if name not in _LOGPROBS}


def as_chat_model(model: object, role: str) -> BaseChatModel:
    """A chat model, or the one that a string such as ``"openai:gpt-4o"`` names.

    Raises:
        TypeError: it is none, or becomes one only by the configuration of a run.
        ImportError: a string, and langchain is not installed.
    """
    if isinstance(model, str):
        return named_model(model, role)
    if not isinstance(model, BaseChatModel):
        raise TypeError(
            f"{role} must be a chat model or a name such as 'openai:gpt-4o', not {type(model).__name__}: give "
            "settings to the model itself; chains, bindings and configurable models go into an EntropyGateRunnable"
        )
    return model


def unbound(runnable: Runnable[Any, Any]) -> tuple[BaseChatModel, dict[str, Any]]:
    """The model in what its ``bind_tools`` gave, and the settings that were bound to it.

    Raises:
        TypeError: there is no chat model to be seen.
    """
    settings: dict[str, Any] = {}
    while isinstance(runnable, RunnableBindingBase):
        settings = {**runnable.kwargs, **settings}
        runnable = runnable.bound
    if not isinstance(runnable, BaseChatModel):
        raise TypeError(f"bind_tools gave a {type(runnable).__name__}, in which no chat model is to be seen")
    return runnable, settings


def common_profile(one: BaseChatModel, other: BaseChatModel) -> dict[str, Any] | None:
    """What both models can do, since either may answer; None where that is not known of both."""
    profiles = [dict(getattr(model, "profile", None) or {}) for model in (one, other)]  # not in every LangChain 1.x
    if not all(profiles):
        return None
    common: dict[str, Any] = {}
    for name in profiles[0].keys() & profiles[1].keys():
        values = [profile[name] for profile in profiles]
        if all(isinstance(value, bool) for value in values):
            common[name] = all(values)
        elif all(isinstance(value, int) for value in values):
            common[name] = min(values)
    return common


def handlers_of(*models: BaseChatModel) -> list[BaseCallbackHandler]:
    """The models' own callback handlers; LangChain calls one that is named twice once."""
    found: list[BaseCallbackHandler] = []
    for model in models:
        own = model.callbacks
        found += own.handlers if isinstance(own, BaseCallbackManager) else own or []
    return found
