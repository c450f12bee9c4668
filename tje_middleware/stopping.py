"""A draft that is stopped because it is sure to be rejected, on its way out of a framework's code around a model."""

from __future__ import annotations

from collections.abc import Sized

from .decision import GateDecision, Route
from .usage import TokenUsage


class DraftStopped(Exception):  # noqa: N818
    """A draft was stopped because it is sure to be rejected; as a framework's own code around a model sees it.

    Attributes:
        decision: The decision that is certain.
        usage: What the draft had spent when it was stopped, as far as that can be seen from here.
    """

    def __init__(self, decision: GateDecision, usage: TokenUsage) -> None:
        super().__init__(f"the draft was stopped after {decision.tokens} tokens: {decision.detail}")
        self.decision = decision
        self.usage = usage


class DraftAborted(BaseException):
    """The same outside of the model.

    No Exception: retries and fallbacks around the model would take it for a failure and ask again.

    Attributes:
        decision: The decision that is certain.
        usage: What the draft had spent when it was stopped, as far as that can be seen from here.
    """

    def __init__(self, stopped: DraftStopped) -> None:
        super().__init__(str(stopped))
        self.decision = stopped.decision
        self.usage = stopped.usage


def raise_if_rejected(decision: GateDecision | None, chunks: Sized) -> None:
    """Stop a draft, of which these chunks came, where that is what was decided.

    Raises:
        DraftStopped: it is.
    """
    # A draft that is to be given up is still delivered, whole: only one that another answer replaces is stopped.
    if decision is not None and decision.route is Route.DEEPER:
        raise DraftStopped(
            decision, TokenUsage(output_tokens=decision.tokens or len(chunks), calls=1, partly_known=1)
        )
