"""Calls that no draft sees, made while drafts are open that may have made them: on threads without their context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tje_middleware.capability import LogprobsCapabilities
from tje_middleware.quiet import QuietLock

from .blocks import capturing_here
from .captured import CapturedEntropy


class OpenDraft:
    """A draft that is being made by the user's code.

    Attributes:
        has_strays: Whether an LLM was called meanwhile of which nobody can say whether it was called for this draft.
    """

    def __init__(self, captured: CapturedEntropy, capabilities: LogprobsCapabilities) -> None:
        self.has_strays = False
        self._captured = captured
        self._capabilities = capabilities

    def sees(self, captured: CapturedEntropy | None) -> bool:
        """Whether calls that are kept there are this draft's."""
        return captured is not None and captured.tells(self._captured)

    def may_lack(self, capabilities: LogprobsCapabilities) -> bool:
        """Whether a call by an LLM of such a gate, which no draft sees, may have been made for this draft."""
        return self._capabilities is capabilities


_open: set[OpenDraft] = set()
_lock = QuietLock()


@contextmanager
def hearing_of_strays(captured: CapturedEntropy, capabilities: LogprobsCapabilities) -> Iterator[OpenDraft]:
    """Around a draft: hears of calls by LLMs of its gate that no draft sees.

    Args:
        captured: What keeps the draft's calls.
        capabilities: Those of the draft's gate, which the LLMs that are asked for it share.
    """
    draft = OpenDraft(captured, capabilities)
    with _lock:
        _open.add(draft)
    try:
        yield draft
    finally:
        with _lock:
            _open.discard(draft)


def note_call(capabilities: LogprobsCapabilities) -> None:
    """An LLM is called here and now that was made to be asked for a gate's drafts."""
    if not _open:
        return
    captured = capturing_here()
    with _lock:
        drafts = tuple(_open)
    if any(draft.sees(captured) for draft in drafts):
        return
    for draft in drafts:
        draft.has_strays |= draft.may_lack(capabilities)
