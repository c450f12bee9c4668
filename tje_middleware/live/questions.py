"""What a live model is asked: nothing of the user's, and briefly."""

from __future__ import annotations

PLAIN = "What is 17 + 26? Answer with one short sentence."
PROMPT = "17 + 26 ="
FOR_TOOL = "What is the weather in Paris now? Use the tool get_weather."

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": _SCHEMA}}
