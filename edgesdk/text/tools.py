"""Functions that a model may call, as callers describe them: one form for templates, schemas that are sound.

Callers write OpenAI's `{"type": "function", "function": {...}}`, its inner part alone, or what a server of
the Model Context Protocol lists (`inputSchema`). Templates get the first, which is what models were trained
on. A schema that could not be held against arguments is refused here, before anything is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import MissingExtra, UnsupportedOption

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Tool = Mapping[str, object]
"""JSON schema of a function that a model may call: `name`, `description`, `parameters`; also, as
OpenAI's interface has it, inside `{"type": "function", "function": ...}`."""

ToolChoice = Literal["auto", "none", "required"] | Mapping[str, JsonValue] | None
"""`auto`, or None: the model decides whether to call; `none`: it is told of no function; `required`: a
grammar makes the answer one valid call; `{"type": "function", "function": {"name": ...}}`: a call of that
function."""


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called.

    Attributes:
        name: of one of the tools.
        arguments: by name; they satisfy the tool's schema.
    """

    name: str
    arguments: Mapping[str, JsonValue]


_SCHEMA_KEYS = ("parameters", "inputSchema", "input_schema")
_NO_ARGUMENTS: Mapping[str, JsonValue] = {"type": "object", "properties": {}}


def wrap_tools(tools: Sequence[Tool]) -> list[dict[str, JsonValue]]:
    """The tools as templates expect them: `{"type": "function", "function": {"name", ..., "parameters"}}`.

    Raises:
        UnsupportedOption: a tool is no JSON object, or has no name.
    """
    wrapped: list[dict[str, JsonValue]] = []
    for tool in tools:
        function = _function(tool)
        schema = next((function[key] for key in _SCHEMA_KEYS if key in function), dict(_NO_ARGUMENTS))
        inner = {key: value for key, value in function.items() if key not in (*_SCHEMA_KEYS, "type")}
        # Keys that a caller wrote keep their order: templates print them as they come.
        if "parameters" in function:
            inner = {key: value for key, value in function.items() if key != "type"}
        else:
            inner["parameters"] = schema
        wrapped.append({"type": "function", "function": inner})
    return wrapped


def described(tools: Sequence[Tool]) -> dict[str, Mapping[str, JsonValue]]:
    """Schema of the arguments of each tool, by its name.

    Raises:
        UnsupportedOption: a tool has no name, or its parameters are no schema, or two share a name.
    """
    found: dict[str, Mapping[str, JsonValue]] = {}
    for tool in wrap_tools(tools):
        function = _function(tool)
        name, parameters = str(function["name"]), function["parameters"]
        if name in found:
            raise UnsupportedOption(f"a tool has the name {name!r}, expected a text that no other tool has")
        if not isinstance(parameters, Mapping):
            raise UnsupportedOption(f"'parameters' of the tool {name} is not a JSON schema (an object)")
        found[name] = parameters
    return found


def argument_validators(tools: Sequence[Tool]) -> dict[str, Validator]:
    """What holds arguments against the schema of each tool, by its name.

    Raises:
        UnsupportedOption: as `described`; or a schema is not valid in draft 2020-12, or refers to what it
            does not hold.
        MissingExtra: the jsonschema package is not installed.
    """
    return {name: _validator(name, schema) for name, schema in described(tools).items()}


def named_function(choice: ToolChoice) -> str | None:
    """The name in a choice; None where it names no function.

    Raises:
        UnsupportedOption: it is no choice.
    """
    if isinstance(choice, Mapping):
        inner = choice.get("function", choice)
        name = inner.get("name") if isinstance(inner, Mapping) else None
        if isinstance(name, str):
            return name
    elif choice in (None, "auto", "none", "required"):
        return None
    raise UnsupportedOption(
        f"tool_choice is {str(choice)[:80]!r}, expected 'auto', 'none', 'required' or "
        '{"type": "function", "function": {"name": ...}}'
    )


def chosen_function(choice: ToolChoice, names: Sequence[str]) -> str | None:
    """The function that a choice names; None where it names none.

    Raises:
        UnsupportedOption: it is no choice, or names no tool.
    """
    name = named_function(choice)
    if name is not None and name not in names:
        raise UnsupportedOption(
            f"tool_choice names {name[:60]!r}, expected one of {', '.join(sorted(names))}"
        )
    return name


def _function(tool: Tool | object) -> Mapping[str, JsonValue]:
    """The inner part of a tool."""
    if not isinstance(tool, Mapping):
        kind = type(tool).__name__
        raise UnsupportedOption(
            f"a tool is a {kind}, expected a description (dict) with 'name' and 'parameters'"
        )
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(name, str) or not name:
        raise UnsupportedOption(f"a tool has the name {name!r}, expected a text that no other tool has")
    return inner


def _validator(name: str, schema: Mapping[str, JsonValue]) -> Validator:
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
        from referencing import Registry
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012
    except ImportError as error:
        raise MissingExtra("jsonschema", "structured") from error

    where = f"'parameters' of the tool {name}"
    try:
        Draft202012Validator.check_schema(dict(schema))
        root = DRAFT202012.create_resource(dict(schema))
        # An empty registry: without one, the package would fetch remote references over the network.
        registry: Registry[object] = Registry()
        places = [(root, registry.resolver_with_root(root))]
        while places:  # looks every reference up, as a validator would when it came to it
            part, resolver = places.pop()
            for key in ("$ref", "$dynamicRef"):
                if isinstance(part.contents, Mapping) and isinstance(part.contents.get(key), str):
                    resolver.lookup(part.contents[key])
            places += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
        made: Validator = Draft202012Validator(dict(schema), registry=registry)
        made.is_valid({})  # a schema that leads back to itself shows now
    except SchemaError as error:
        place = "".join(f"/{step}" for step in error.absolute_path)
        raise UnsupportedOption(
            f"{where} is not a JSON schema of draft 2020-12: {error.message[:200]} (at #{place})"
        ) from error
    except Unresolvable as error:
        raise UnsupportedOption(f"{where} has an unknown reference: {str(error)[:200]}") from error
    except RecursionError as error:
        raise UnsupportedOption(f"{where} is nested too deeply, or leads back to itself") from error
    return made
