"""The gate: its decisions and policies, and one turn from a draft through the decision to the answer."""
