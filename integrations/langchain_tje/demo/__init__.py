"""The demo: real models gated on this machine, and the parts of it that the recipes in the cookbook use."""

from .agent import EXAMPLES, SYSTEM, TextToolCalls, turns_right, with_more_examples

__all__ = ["EXAMPLES", "SYSTEM", "TextToolCalls", "turns_right", "with_more_examples"]
