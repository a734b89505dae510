"""A caller's conversation to the form that chat templates read, or one line that says what is wrong with it.

Templates are written for plain texts and are quiet about everything else: they print "None", the braces of
a list, or nothing at all. So content comes as OpenAI's interface has it (a text, or parts of type `text`)
and leaves as one text, values that are no JSON are refused, and a message that a template does not show is
found by rendering without it. It knows no template and no tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import EdgeError, UnsupportedOption, quoted

Message = Mapping[str, JsonValue]
"""`role` and `content`, and whatever else the model's template reads."""

MOST_MESSAGES = 10_000
_DEEPEST = 32
_MOST_VALUES = 100_000


def plain_messages(messages: Sequence[Message]) -> list[dict[str, JsonValue]]:
    """A conversation with one text as the content of each message, copied.

    Parts of a content are joined with newlines. An assistant's message that calls tools may do without
    content. Keys that say nothing (`"refusal": None`, an empty `tool_calls`) are left out, because templates
    ask whether a key is there; arguments of calls that are JSON in a text, as OpenAI has them, become the
    object that most templates expect (`with_text_arguments` is the way back).

    Args:
        messages: each with `role` and `content`.

    Raises:
        UnsupportedOption: a message is not as it should be; the text says which one.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise UnsupportedOption(
            f"messages is {quoted(messages)}, expected a list of messages "
            '({"role": "user", "content": "..."})'
        )
    if not 1 <= len(messages) <= MOST_MESSAGES:
        raise UnsupportedOption(f"messages has {len(messages)} messages, expected 1 to {MOST_MESSAGES}")
    return [_plain_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def plain_tools(tools: object) -> list[Mapping[str, JsonValue]]:
    """The functions of a conversation as a list; what each must say is `tool_calls`' to check.

    Raises:
        UnsupportedOption: they are no list of descriptions.
    """
    if tools is None:
        return []
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise UnsupportedOption(f"tools is {quoted(tools)}, expected a list of descriptions (dict)")
    for index, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise UnsupportedOption(f"tools[{index}] is {quoted(tool)}, expected a description (dict)")
    return list(tools)


def check_all_shown(
    messages: Sequence[Message], text: str, render: Callable[[Sequence[Message]], str]
) -> None:
    """Refuses a conversation of which the template leaves a message out without a word.

    Args:
        messages: plain.
        text: what the template made of them.
        render: makes it of other messages.

    Raises:
        UnsupportedOption: a message makes no difference to the text.
    """
    looked_at = set()
    for index, message in enumerate(messages):
        role, content = message["role"], str(message["content"]).strip()
        if role in looked_at or not content or content in text or len(messages) == 1:
            continue
        looked_at.add(role)  # a template that shows one message of a role shows all
        try:
            without = render([*messages[:index], *messages[index + 1 :]])
        except EdgeError:
            continue  # it insists on a message here
        if without == text:
            raise UnsupportedOption(
                f"the model's chat template leaves out messages of the role {quoted(role)} "
                f"(messages[{index}]); put the text into a message of a role that the model knows"
            )


def with_text_arguments(messages: Sequence[Message]) -> list[dict[str, JsonValue]]:
    """The same conversation with the arguments of calls as JSON in a text, which some templates join."""
    return [
        {**message, "tool_calls": _map_arguments(message["tool_calls"], _write_object)}
        if "tool_calls" in message
        else dict(message)
        for message in messages
    ]


def shows_python(messages: Sequence[Message], text: str) -> bool:
    """Whether a template wrote arguments as Python prints an object, which no model was taught."""
    found: list[str] = []

    def look(value: JsonValue) -> JsonValue:
        if isinstance(value, dict) and value:
            found.append(str(value))
        return value

    for message in messages:
        _map_arguments(message.get("tool_calls"), look)
    contents = [str(message["content"]) for message in messages]
    # Somebody may have quoted it.
    return any(text.count(each) > sum(content.count(each) for content in contents) for each in found)


def _map_arguments(calls: JsonValue, change: Callable[[JsonValue], JsonValue]) -> JsonValue:
    """Calls, of which every function's arguments are changed."""
    if not isinstance(calls, list):
        return calls
    changed: list[JsonValue] = []
    for call in calls:
        inner = call.get("function") if isinstance(call, dict) else None
        if isinstance(call, dict) and isinstance(inner, dict) and "arguments" in inner:
            call = {**call, "function": {**inner, "arguments": change(inner["arguments"])}}
        changed.append(call)
    return changed


def _read_object(arguments: JsonValue) -> JsonValue:
    """Arguments as an object; a text that is none stays, for the template to show as it was."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value: JsonValue = json.loads(arguments)
        return _plain_value(value, "a call", 0, [_MOST_VALUES]) if isinstance(value, dict) else arguments
    except (ValueError, RecursionError, UnsupportedOption):
        return arguments


def _write_object(arguments: JsonValue) -> JsonValue:
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments


def _plain_message(message: object, place: str) -> dict[str, JsonValue]:
    if not isinstance(message, Mapping):
        raise UnsupportedOption(f"{place} is {quoted(message)}, expected a dict with 'role' and 'content'")
    role = message.get("role")
    if not isinstance(role, str) or not role.strip():
        found = f"the role {quoted(role)}" if "role" in message else "no 'role'"
        raise UnsupportedOption(f"{place} has {found}, expected 'system', 'user', 'assistant' or 'tool'")
    left = [_MOST_VALUES]
    plain = {
        _key(key, place): _plain_value(value, place, 0, left)
        for key, value in message.items()
        if key != "content" and value is not None
    }
    calls = plain.pop("tool_calls", None)
    if calls:
        plain["tool_calls"] = _map_arguments(calls, _read_object)
    content = _text(message.get("content"), place, optional=bool(message.get("tool_calls")))
    # Templates print keys in order where they print a whole message.
    return {"role": role, "content": content} | {key: value for key, value in plain.items() if key != "role"}


def _text(content: object, place: str, *, optional: bool) -> str:
    """The content of a message as one text."""
    if isinstance(content, str):
        return str(content)
    if content is None:
        if optional:
            return ""
        raise UnsupportedOption(f"{place} has no content, expected a text")
    if not isinstance(content, list | tuple):
        raise UnsupportedOption(
            f"the content of {place} is {quoted(content)}, expected a text or parts of type 'text'"
        )
    texts: list[str] = []
    for part in content:
        if not isinstance(part, Mapping):
            raise UnsupportedOption(f"the content of {place} holds {quoted(part)}, expected parts (dict)")
        if part.get("type") != "text":
            raise UnsupportedOption(
                f"the content of {place} holds a part of type {quoted(part.get('type'))}, expected 'text': "
                "the model reads nothing else"
            )
        text = part.get("text")
        if not isinstance(text, str):
            raise UnsupportedOption(
                f"the content of {place} holds a part whose 'text' is {quoted(text)}, expected a text"
            )
        texts.append(text)
    return "\n".join(texts)


def _plain_value(value: object, place: str, depth: int, left: list[int]) -> JsonValue:
    """A copy of a JSON value; whatever else there is would be printed as Python sees it."""
    left[0] -= 1
    if depth > _DEEPEST or left[0] < 0:
        raise UnsupportedOption(f"{place} is nested more than {_DEEPEST} deep, or has too many values")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        inner = {_key(key, place): _plain_value(item, place, depth + 1, left) for key, item in value.items()}
        return cast(JsonValue, inner)
    if isinstance(value, list | tuple):
        return [_plain_value(item, place, depth + 1, left) for item in value]
    raise UnsupportedOption(f"{place} holds {quoted(value)}, expected values that JSON has")


def _key(key: object, place: str) -> str:
    if not isinstance(key, str):
        raise UnsupportedOption(f"{place} has the key {quoted(key)}, expected a text")
    return key
