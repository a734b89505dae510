"""Calls of functions in a model's answer: finding them, and holding them against their schemas.

Models say a call in the form that their chat template taught them, so the form is recognised by the
template. Known are `<tool_call>{...}</tool_call>` (Hermes, Qwen, SmolLM), Llama 3's bare JSON with
`parameters`, and Mistral's `[TOOL_CALLS] [...]`. Nothing is ever called here, and prompts are rendered
by `chat_template`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import MissingExtra, ToolCallError, UnsupportedOption

Tool = Mapping[str, JsonValue]
"""JSON schema of a function that a model may call: `name`, `description`, `parameters`; also, as
OpenAI's interface has it, inside `{"type": "function", "function": ...}`."""

CallFormat = Literal["hermes", "llama3", "mistral"]

ToolChoice = Literal["auto", "required"]
"""`auto`: the model decides whether to call; `required`: a grammar makes the answer one valid call."""

_BLOCK = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_OPEN, _PYTHON = "<tool_call>", "<|python_tag|>"
MISTRAL_MARK = "[TOOL_CALLS]"
"""A special token in Mistral's own tokenizers."""

_CALL_GRAMMAR: dict[CallFormat, str] = {
    "hermes": '"<tool_call>\\n" call "\\n</tool_call>"',
    "llama3": "call",
    "mistral": 'MARK "[" call "]"',
}


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called.

    Attributes:
        name: of one of the tools.
        arguments: by name; they satisfy the tool's schema.
    """

    name: str
    arguments: Mapping[str, JsonValue]


def call_format(template: str) -> CallFormat:
    """The form of calls that a chat template teaches.

    Args:
        template: jinja2 source.

    Raises:
        UnsupportedOption: it has no place for tools, or a form that is not known here.
    """
    if "tools" not in template:
        raise UnsupportedOption(
            "the model's chat template has no place for tools; use a model trained on them"
        )
    if _OPEN in template:
        return "hermes"
    if MISTRAL_MARK in template and "[ARGS]" not in template:
        return "mistral"
    if _PYTHON in template or ('"parameters"' in template and "ipython" in template):
        return "llama3"
    raise UnsupportedOption(
        "the form of tool calls that the model's chat template teaches is not known (known are those of "
        "Hermes and Qwen, Llama 3, Mistral); use render_chat and generate, and read the answer yourself"
    )


def parse_tool_calls(text: str, form: CallFormat, tools: Sequence[Tool]) -> tuple[ToolCall, ...]:
    """The calls in an answer, in order; none if it holds plain text.

    Args:
        text: the answer with its special tokens, without end tokens.
        form: how calls are written.
        tools: functions that may be called.

    Raises:
        ToolCallError: a call is cut, is not valid JSON, names an unknown function, or its arguments do
            not satisfy the function's schema.
        UnsupportedOption: a tool is not described as it should be.
        MissingExtra: the jsonschema package is not installed.
    """
    functions = described(tools)
    return tuple(_checked(call, functions, text) for call in _raw_calls(text, form))


def described(tools: Sequence[Tool]) -> dict[str, Mapping[str, JsonValue]]:
    """Schema of the arguments of each tool, by its name.

    Raises:
        UnsupportedOption: a tool has no name, or its parameters are no schema, or two share a name.
    """
    found: dict[str, Mapping[str, JsonValue]] = {}
    for tool in tools:
        inner = tool.get("function", tool)
        function = inner if isinstance(inner, Mapping) else {}
        name = function.get("name")
        if not isinstance(name, str) or not name or name in found:
            raise UnsupportedOption(f"a tool has the name {name!r}, expected a text that no other tool has")
        parameters = function.get("parameters", {"type": "object"})
        if not isinstance(parameters, Mapping):
            raise UnsupportedOption(f"'parameters' of the tool {name} is not a JSON schema (an object)")
        found[name] = parameters
    return found


def call_grammar(form: CallFormat, schemas: Mapping[str, str], mistral_mark: int | None = None) -> str:
    """A Lark grammar of llguidance for an answer that is one call.

    Args:
        form: how calls are written.
        schemas: JSON text of the argument schema of each function, by name; checked before.
        mistral_mark: id of the token [TOOL_CALLS]; None if it is ordinary text.
    """
    key = "parameters" if form == "llama3" else "arguments"
    mark = json.dumps(MISTRAL_MARK) if mistral_mark is None else f"<[{mistral_mark}]>"
    lines = [f"start: {_CALL_GRAMMAR[form].replace('MARK', mark)}"]
    lines.append(f"call: {' | '.join(f'call_{index}' for index in range(len(schemas)))}")
    for index, (name, schema) in enumerate(schemas.items()):
        head = json.dumps(f'{{"name": {json.dumps(name)}, "{key}": ')
        lines += [f'call_{index}: {head} args_{index} "}}"', f"args_{index}: %json {schema}"]
    return "\n".join(lines)


def _raw_calls(text: str, form: CallFormat) -> list[JsonValue]:
    """The JSON of each call."""
    if form == "hermes":
        blocks = _BLOCK.findall(text)
        if text.count(_OPEN) > len(blocks):
            raise ToolCallError("the answer ends inside a tool call; allow more max_tokens", text)
        return [_load(block, text) for block in blocks]
    if form == "mistral":
        _, mark, rest = text.partition(MISTRAL_MARK)
        calls = _load(rest.strip(), text) if mark else []
        if not isinstance(calls, list):
            raise ToolCallError(f"{MISTRAL_MARK} is not followed by a list of calls", text)
        return calls
    answer = text.strip()
    if answer.startswith(_PYTHON):
        return [_load(answer.removeprefix(_PYTHON).strip(), text)]
    # A call has no mark of its own: any other answer, also one that is JSON, is plain text.
    try:
        call = json.loads(answer)
    except (ValueError, RecursionError):
        return []
    return [call] if isinstance(call, dict) and {"name", "parameters"} <= call.keys() else []


def _load(block: str, text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(block, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ToolCallError(
            f"the model wrote a tool call that is no JSON ({error}): {_short(block)}", text
        ) from error
    return value


def _refuse(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is no JSON number")


def _checked(call: JsonValue, functions: Mapping[str, Mapping[str, JsonValue]], text: str) -> ToolCall:
    if not isinstance(call, dict):
        raise ToolCallError(f"the model wrote a tool call that is no object: {_short(call)}", text)
    name = call.get("name")
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the arguments as JSON in a text
        arguments = _load(arguments, text)
    if not isinstance(name, str) or name not in functions:
        raise ToolCallError(
            f"the model called {_short(name)}, expected one of {', '.join(sorted(functions))}", text
        )
    if not isinstance(arguments, dict):
        raise ToolCallError(f"the arguments of {name} are {_short(arguments)}, expected an object", text)
    problem = _problem(arguments, name, functions[name])
    if problem is not None:
        raise ToolCallError(f"the arguments of {name} break its schema: {problem}", text)
    return ToolCall(name, arguments)


def _problem(arguments: JsonValue, name: str, schema: Mapping[str, JsonValue]) -> str | None:
    """What is wrong with arguments; None if they satisfy the schema."""
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError, best_match
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError as error:
        raise MissingExtra("jsonschema", "structured") from error

    try:
        Draft202012Validator.check_schema(dict(schema))
        # An empty registry: without one, the package would fetch remote references over the network.
        found = best_match(Draft202012Validator(dict(schema), registry=Registry()).iter_errors(arguments))
    except SchemaError as error:
        raise UnsupportedOption(
            f"'parameters' of the tool {name} is not a JSON schema: {error.message}"
        ) from error
    except Unresolvable as error:
        raise UnsupportedOption(
            f"'parameters' of the tool {name} has an unknown reference: {error}"
        ) from error
    return None if found is None else f"{found.json_path}: {_short(found.message)}"


def _short(value: object) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    return text if len(text) <= 160 else f"{text[:157]}..."
