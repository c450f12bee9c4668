"""Lower bounds of signals, while a draft is still being written."""
