"""What model calls say of themselves: followed by LlamaIndex's events and spans, kept by handlers and blocks."""
