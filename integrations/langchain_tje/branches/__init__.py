"""What LangChain users give as the deeper branch."""
