"""Deeper branches: they answer again, with more effort, where a draft is not accepted.

A branch says whether it needs the draft and whether its cost includes the draft; an integration supplies the question
as an ``Ask``, so that each branch is written once for all frameworks.
"""

from .base import Ask, Branch, Message, StreamingBranch
from .refinement import REFINE_INSTRUCTION, SequentialRefinement

__all__ = ["REFINE_INSTRUCTION", "Ask", "Branch", "Message", "SequentialRefinement", "StreamingBranch"]
