"""The gate as middleware of agents."""
