"""What others see of a gated run: its draft while that is written, and its decision in traces and callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel

from tje_middleware import GateDecision
from tje_middleware.gate.delivery import Mode

#: Callback handlers receive every decision as a custom event of this name.
EVENT = "tje_decision"
#: LangGraph shows no message of a model that has this tag.
_NOSTREAM = "nostream"
_IN_METADATA = ("route", "reason", "signal", "signal_value", "threshold", "method", "verdict", "profile_version")


@dataclass(frozen=True)
class Visibility:
    """What LangChain shows of a draft while it is written; how drafts are held is decided here and nowhere else.

    Attributes:
        mode: How the draft is treated while it is written.
    """

    mode: Mode = "hold"

    @property
    def is_hidden(self) -> bool:
        """Whether nobody may see the draft before it is accepted; it then comes whole, in one chunk.

        One that is not hidden passes through as it is written, and is the answer whatever is decided.
        """
        return self.mode != "annotate"

    @property
    def is_stopped(self) -> bool:
        """Whether its request is cancelled once it is sure to be rejected."""
        return self.mode == "abort"

    @property
    def tags(self) -> list[str]:
        """The tags of every run that writes the draft, also of models that a function in it calls."""
        return [_NOSTREAM] if self.is_hidden else []

    def settings_of(self, model: BaseChatModel) -> dict[str, Any]:
        """The fields with which a chat model that writes the draft is made, so that LangChain shows no more of it.

        A hidden draft is asked for unstreamed: it must not reach the user by any kind of stream, and one kind of
        event streaming keeps only the last chunk's logprobs.
        """
        if self.is_hidden:
            return {"disable_streaming": True, "tags": [*(model.tags or []), *self.tags]}
        return {} if can_stream(model) else {"disable_streaming": True}

    def unstreamed(self, model: BaseChatModel) -> BaseChatModel:
        """The model without ``streaming=True``, with which its integration would stream every request."""
        if self.is_hidden and getattr(model, "streaming", False):
            return model.model_copy(update={"streaming": False})
        return model


def can_stream(model: BaseChatModel) -> bool:
    """Whether a model's own code streams, and nobody has forbidden it."""
    kind = type(model)
    implemented = kind._stream is not BaseChatModel._stream or kind._astream is not BaseChatModel._astream
    return implemented and model.disable_streaming is not True


def trace_metadata(decision: GateDecision) -> dict[str, Any]:
    """The decision for a run's metadata; what is not known is left out."""
    fields = decision.as_dict()
    return {f"tje.{name}": fields[name] for name in _IN_METADATA if fields[name] is not None}
