"""What a signal will at least be, of a draft that is still being written."""
