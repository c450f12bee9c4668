"""The gate: what it decides and by which policies, and one turn from a draft through the decision to the answer."""
