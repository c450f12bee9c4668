"""How LLMs are asked: for logprobs, whole and in streams, each by its provider's own arguments."""
