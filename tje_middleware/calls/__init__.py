"""Calls of models: what was asked, what they answered, what they spent."""
