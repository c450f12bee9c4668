"""Simulations: what a promise is worth where the truth is known."""
