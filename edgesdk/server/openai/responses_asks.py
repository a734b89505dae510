"""Items of a response's input to messages, and its document to what is asked of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from edgesdk.errors import quoted
from edgesdk.server.ask import Ask
from edgesdk.server.openai.asks import sampling
from edgesdk.server.openai.documents import JsonObject
from edgesdk.server.openai.responses_documents import ResponsesDocument
from edgesdk.server.refusal import Refused

_TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
_HONOURED = frozenset({"reasoning.encrypted_content"})
"""What may be included: thoughts are sent as they are, so nobody needs them encrypted."""


def responses_ask(document: ResponsesDocument, earlier: Sequence[JsonObject]) -> Ask:
    """What a response asks.

    Args:
        document: of the request.
        earlier: items of the responses before it.

    Raises:
        Refused: an item is of a kind that the model cannot read.
    """
    for each in document.include or ():
        if each not in _HONOURED:
            raise Refused(400, f"include has {quoted(each, 60)}, which is not there", param="include")
    items = document.input
    asked: list[JsonObject] = [{"role": "user", "content": items}] if isinstance(items, str) else list(items)
    messages = _messages([*earlier, *asked])
    if document.instructions:
        messages.insert(0, {"role": "system", "content": document.instructions})
    shape = None if document.text is None else document.text.format
    schema: JsonObject | bool | None = None
    if shape is not None and shape.type == "json_object":
        schema = {"type": "object"}
    elif shape is not None and shape.type == "json_schema":
        if shape.schema_ is None:
            raise Refused(400, "text.format has no schema", param="text.format")
        schema = shape.schema_
    functions = document.tools or []
    options = sampling(document).add(
        json_schema=schema,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": each.name,
                    **({} if each.description is None else {"description": each.description}),
                    "parameters": each.parameters or {"type": "object", "properties": {}},
                },
            }
            for each in functions
        ]
        or None,
        tool_choice=document.tool_choice,
        template_variables=document.chat_template_kwargs,
        thinking_tokens=document.thinking_tokens,
    )
    options.said["max_tokens"] = document.max_output_tokens
    return Ask(
        options.said,
        messages=messages,
        effort=None if document.reasoning is None else document.reasoning.effort,
        one_call=document.parallel_tool_calls is False,
        strict=frozenset(each.name for each in functions if each.strict),
    )


def _messages(items: Sequence[JsonObject]) -> list[JsonObject]:
    """Items as messages; a thought, a text and calls that follow one another are one message."""
    found: list[JsonObject] = []
    for place, item in enumerate(items):
        kind, where = item.get("type", "message"), f"input[{place}]"
        if kind == "message":
            role = item.get("role")
            message: JsonObject = {"role": role, "content": _text(item.get("content"), where)}
            if role == "assistant" and found and _is_open(found[-1]):
                found[-1]["content"] = message["content"]
            else:
                found.append(message)
        elif kind == "reasoning":
            parts = item.get("content") or item.get("summary") or []
            found.append({"role": "assistant", "content": "", "reasoning_content": _text(parts, where)})
        elif kind == "function_call":
            call: JsonObject = {
                "id": str(item.get("call_id")),
                "type": "function",
                "function": {"name": str(item.get("name")), "arguments": item.get("arguments", "{}")},
            }
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": ""})
            calls = found[-1].setdefault("tool_calls", [])
            if isinstance(calls, list):
                calls.append(call)
        elif kind == "function_call_output":
            text = _text(item.get("output"), where)
            found.append({"role": "tool", "tool_call_id": str(item.get("call_id")), "content": text})
        else:
            raise Refused(
                400,
                f"{where} is of type {quoted(kind)}: the model reads messages and calls only",
                param=where,
            )
    return found


def _is_open(message: Mapping[str, JsonValue]) -> bool:
    """Whether it is a thought that waits for its answer."""
    return (
        message["role"] == "assistant"
        and message["content"] == ""
        and "reasoning_content" in message
        and "tool_calls" not in message
    )


def _text(content: JsonValue, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refused(
            400, f"the content of {where} is {quoted(content)}, expected a text or parts", param=where
        )
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
        if kind not in _TEXTS or not isinstance(text, str):
            raise Refused(
                400,
                f"{where} holds a part of type {quoted(kind)}: the model reads nothing but text",
                param=where,
            )
        texts.append(text)
    return "\n".join(texts)
