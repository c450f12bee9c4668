"""Responses of LlamaIndex: their texts, their payloads, their places for a decision."""
