"""tje-middleware for LangChain and LangGraph."""
