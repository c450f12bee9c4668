"""Drafts and deeper branches as steps of a workflow, and the step that routes between them."""

from .events import AbstainEvent, DecisionEvent, DeeperEvent, DraftEvent
from .route import entropy_route

__all__ = ["AbstainEvent", "DecisionEvent", "DeeperEvent", "DraftEvent", "entropy_route"]
