"""Deeper branches of LangChain's users: whatever they give as ``deeper=`` is made one kind of object here."""
