"""The gate around a chain."""
