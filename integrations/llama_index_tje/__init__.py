"""tje-middleware for LlamaIndex."""
