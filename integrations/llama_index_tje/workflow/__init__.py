"""Drafts and deeper branches as steps of a workflow, and the step that routes between them."""
