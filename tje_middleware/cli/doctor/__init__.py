"""What a live model really returns: whether its answers come with logprobs, how many, and of what.

Providers differ in that more than their documentation says, and change it. ``examine`` asks the model itself.
"""

from .examination import MOST_REQUESTS, examine
from .finding import Finding, LiveModel, Outcome

__all__ = ["MOST_REQUESTS", "Finding", "LiveModel", "Outcome", "examine"]
