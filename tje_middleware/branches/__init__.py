"""Deeper branches: what answers again, with more effort, where a draft is not accepted."""
