"""The gate as a node and an edge of graphs."""
