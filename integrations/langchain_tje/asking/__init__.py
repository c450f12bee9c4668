"""Models and chains that are asked for logprobs."""
