"""Stopping a draft while it is being written, once its decision is certain."""
