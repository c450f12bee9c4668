"""Deeper branches: whatever users give as ``deeper=`` is made one kind of object here."""
