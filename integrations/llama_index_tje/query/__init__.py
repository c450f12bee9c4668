"""A cheap query engine, and a deeper one where it is unsure: the engine, its turn, its branches and its answers."""

from .engine import EntropyGatedQueryEngine

__all__ = ["EntropyGatedQueryEngine"]
