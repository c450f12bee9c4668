"""The gate around functions."""
