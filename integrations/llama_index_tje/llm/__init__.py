"""The gated LLM: the model, and one question's way through it."""
