"""Anthropic's documents to what is asked of a model: blocks become messages with texts, calls and results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from edgesdk.errors import quoted
from edgesdk.server.anthropic.documents import CountDocument, JsonObject, MessagesDocument
from edgesdk.server.ask import Ask, Options
from edgesdk.server.refusal import Refused

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_NOTES = frozenset({"type", "cache_control", "citations", "signature"})
"""Keys of blocks that say nothing to a model."""


def messages_ask(document: MessagesDocument) -> Ask:
    """What a message asks.

    Raises:
        Refused: a block is of a kind that the model cannot read, or an option contradicts another.
    """
    options = Options().add(
        max_tokens=document.max_tokens,
        temperature=document.temperature,
        top_p=document.top_p,
        top_k=document.top_k,
        stop=document.stop_sequences,
    )
    return _ask(document, options)


def count_ask(document: CountDocument) -> Ask:
    """The same for a document whose tokens are only counted."""
    return _ask(document, Options())


def _ask(document: CountDocument, options: Options) -> Ask:
    choice = document.tool_choice
    named = choice is not None and choice.type == "tool"
    if choice is not None and named != (choice.name is not None):
        raise Refused(400, "tool_choice has a name with the type 'tool', and only then", param="tool_choice")
    tools: list[JsonObject] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                **({} if tool.description is None else {"description": tool.description}),
                "parameters": tool.input_schema,
            },
        }
        for tool in document.tools or ()
    ]
    picked: object = None
    if choice is not None:
        picked = {"name": choice.name} if named else _CHOICES[choice.type]
    thinking = document.thinking
    options.add(
        tools=tools or None,
        tool_choice=picked,
        thinking_tokens=None if thinking is None else thinking.budget_tokens,
    )
    return Ask(
        options.said,
        messages=_messages(document),
        thinks=None if thinking is None else thinking.type == "enabled",
        one_call=choice is not None and choice.disable_parallel_tool_use is True,
        strict=frozenset(tool.name for tool in document.tools or () if tool.strict),
    )


def _messages(document: CountDocument) -> list[JsonObject]:
    found: list[JsonObject] = []
    if document.system is not None:
        found.append({"role": "system", "content": _text(document.system, "system")})
    for place, message in enumerate(document.messages):
        role, content = message.get("role"), message.get("content")
        where = f"messages[{place}]"
        if role not in ("user", "assistant") or set(message) - {"role", "content"}:
            raise Refused(
                400,
                f"{where} has the role {quoted(role)}, expected user or assistant, and content",
                param=where,
            )
        if isinstance(content, str):
            found.append({"role": role, "content": content})
        elif isinstance(content, list):
            found += (_user if role == "user" else _assistant)(content, where)
        else:
            raise Refused(400, f"the content of {where} is {quoted(content)}, expected a text or blocks")
    return found


def _user(blocks: Sequence[JsonValue], where: str) -> list[JsonObject]:
    """Results of calls as messages of their own, before what the user says besides."""
    results: list[JsonObject] = []
    texts: list[str] = []
    for each in blocks:
        kind, block = _kind(each, where)
        if kind == "tool_result":
            content = block.get("content", "")
            text = _text(content if isinstance(content, str | list) else "", where)
            if block.get("is_error") is True:
                text = f"Error: {text}"
            results.append({"role": "tool", "tool_call_id": str(block.get("tool_use_id")), "content": text})
        else:
            texts.append(_block_text(kind, block, where))
    return [*results, {"role": "user", "content": "\n".join(texts)}] if texts else results


def _assistant(blocks: Sequence[JsonValue], where: str) -> list[JsonObject]:
    texts: list[str] = []
    calls: list[JsonValue] = []
    thought = ""
    for each in blocks:
        kind, block = _kind(each, where)
        if kind == "tool_use":
            function: JsonObject = {
                "name": str(block.get("name")),
                "arguments": json.dumps(block.get("input", {}), ensure_ascii=False),
            }
            calls.append({"id": str(block.get("id")), "type": "function", "function": function})
        elif kind == "thinking":
            thought += str(block.get("thinking", ""))
        elif kind != "redacted_thinking":
            texts.append(_block_text(kind, block, where))
    message: JsonObject = {"role": "assistant", "content": "\n".join(texts)}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    return [message]


def _text(content: str | Sequence[JsonValue], where: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_block_text(*_kind(block, where), where) for block in content)


def _kind(block: JsonValue, where: str) -> tuple[str, Mapping[str, JsonValue]]:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise Refused(400, f"{where} holds {quoted(block)}, expected a block with its type", param=where)
    return str(block["type"]), block


def _block_text(kind: str, block: Mapping[str, JsonValue], where: str) -> str:
    text = block.get("text")
    if kind != "text" or not isinstance(text, str) or set(block) - _NOTES - {"text"}:
        raise Refused(
            400,
            f"{where} holds a block of type {quoted(kind)}: the model reads nothing but text",
            param=where,
        )
    return text
