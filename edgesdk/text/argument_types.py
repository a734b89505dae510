"""Which kinds of values an argument's schema allows, for forms of calls that write texts without quotes."""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk.bundle.records import JsonValue

Schema = Mapping[str, JsonValue]

_ALL = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
_MOST_STEPS = 16


def resolve(schema: JsonValue | Schema, root: Schema) -> Schema:
    """A schema, or the one in the same document that its `$ref` leads to; empty where that is unclear."""
    place: JsonValue | Schema = schema
    for _ in range(_MOST_STEPS):
        if not isinstance(place, Mapping):
            return {}
        reference = place.get("$ref")
        if not isinstance(reference, str):
            return place
        if not reference.startswith("#/"):
            return {}
        place = root
        for step in reference[2:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            place = place.get(key) if isinstance(place, Mapping) else None
    return {}


def allowed_types(schema: JsonValue | Schema, root: Schema, depth: int = 0) -> frozenset[str]:
    """JSON's names of the types that a schema allows; all where it does not say.

    Args:
        schema: of an argument.
        root: the schema that it stands in, for references.
        depth: how far inside of others it stands.
    """
    found = resolve(schema, root)
    said = found.get("type")
    if isinstance(said, str):
        return frozenset({said})
    if isinstance(said, list):
        return frozenset(str(kind) for kind in said)
    if "const" in found:
        return frozenset({type_of(found["const"])})
    values = found.get("enum")
    if isinstance(values, list):
        return frozenset(type_of(value) for value in values)
    for key in ("anyOf", "oneOf"):
        parts = found.get(key)
        if isinstance(parts, list) and depth < _MOST_STEPS:
            return frozenset().union(*(allowed_types(part, root, depth + 1) for part in parts))
    return _ALL


def type_of(value: JsonValue) -> str:
    """JSON's name of a value's type; an integer for a number without fraction."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    names = {str: "string", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")
