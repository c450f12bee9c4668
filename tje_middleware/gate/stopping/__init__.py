"""Stopping a draft while it is being written, once it is sure to be rejected."""
