"""A turn whose draft is made by the user's code, which may call LLMs where it is not seen for which draft."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tje_middleware import MissingLogprobs
from tje_middleware.aggregation import Aggregate
from tje_middleware.capture import ModelCall
from tje_middleware.delivery import Delivery

from ._capture.strays import OpenDraft, hearing_of_strays
from ._captured_turn import Answer, CapturedTurn

_STRAYS = (
    "a model was called on a thread, or by a task, that came without this draft's context, so that it is not known "
    "for which draft: run the thread in contextvars.copy_context(), or by asyncio.to_thread"
)


class UserCodeTurn(CapturedTurn[Answer], ABC):
    """Judges no draft by a part of its calls.

    Args:
        delivery: The rules.
        aggregate: Which of several model calls speak for the draft.
    """

    def __init__(self, delivery: Delivery, aggregate: Aggregate) -> None:
        super().__init__(delivery, aggregate)
        self._heard: OpenDraft | None = None

    @contextmanager
    def _as_draft(self) -> Iterator[None]:
        """What is called in the block is called for the draft; what may have been is heard of."""
        with (
            super()._as_draft(),
            hearing_of_strays(self._drafting, self.delivery.gate.capabilities) as self._heard,
        ):
            yield

    @property
    def _has_strays(self) -> bool:
        return self._heard is not None and self._heard.has_strays

    def writer_of(self, draft: Answer) -> ModelCall:
        """The evidence of all calls that the draft was made by; none where it is not known which these are."""
        speaking = super().writer_of(draft)
        return replace(speaking, logprobs=MissingLogprobs(_STRAYS)) if self._has_strays else speaking

    def was_asked(self, draft: Answer) -> bool:
        """Whether the models that may have made it were asked, as far as they are known."""
        return not self._has_strays and super().was_asked(draft)

    def remark(self, draft: Answer) -> str | None:
        """By which rule the calls were aggregated, where there were several and they are known."""
        return None if self._has_strays else super().remark(draft)
