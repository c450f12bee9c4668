"""What ``tje demo`` asks and what it shows; an integration runs it."""

from .questions import Question, calculated, is_right, load_questions
from .result import ALWAYS, NEVER, UNTIL_REPEATED, AgentDemoResult, AgentFigures, DemoResult, GradedRuns, label

__all__ = [
    "ALWAYS",
    "NEVER",
    "UNTIL_REPEATED",
    "AgentDemoResult",
    "AgentFigures",
    "DemoResult",
    "GradedRuns",
    "Question",
    "calculated",
    "is_right",
    "label",
    "load_questions",
]
