"""From labelled records to a profile: which signal, whether it separates, and the thresholds."""
