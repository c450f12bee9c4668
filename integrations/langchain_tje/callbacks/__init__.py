"""What callbacks tell: logprobs, usage, and the drafts they belong to."""
