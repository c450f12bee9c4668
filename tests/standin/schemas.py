"""Small JSON values that satisfy a JSON schema."""

from __future__ import annotations

from typing import Any


def example(schema: dict, text: str = "yes") -> Any:
    """A value that satisfies the schema: ``text`` for strings, 1, true, empty lists, and what objects require."""
    return _value(schema, schema.get("$defs") or schema.get("definitions") or {}, text, frozenset())


def _value(schema: dict, definitions: dict, text: str, within: frozenset[str]) -> Any:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return _value(definitions[name], definitions, text, within | {name})
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return _value(_choice(schema[several], within), definitions, text, within)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next(each for each in kind if each != "null")
    if kind == "object":
        properties = schema.get("properties", {})
        required = schema.get("required", properties)
        return {name: _value(properties[name], definitions, text, within) for name in required}
    if kind == "array":
        return [_value(schema.get("items", {}), definitions, text, within)] * schema.get("minItems", 0)
    if kind in {"integer", "number"}:
        return max(1, schema.get("minimum", 1)) if schema.get("maximum", 1) >= 1 else schema["maximum"]
    return {"boolean": True, "null": None}.get(kind, text)


def _choice(options: list[dict], within: frozenset[str]) -> dict:
    """The first option, unless it would lead into a schema that we are within: a list that links on has an end."""
    ends = [each for each in options if each.get("$ref", "").rsplit("/", 1)[-1] not in within]
    return (ends or options)[0]
