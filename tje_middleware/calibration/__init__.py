"""Calibration: labelled records become a profile with a signal, a verdict and thresholds."""
