"""OpenAI's documents to what is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from edgesdk.server.ask import Ask, Options
from edgesdk.server.openai.documents import (
    ChatDocument,
    CompletionDocument,
    Drawing,
    JsonObject,
    ResponseFormat,
    Sampling,
)
from edgesdk.server.refusal import Refused
from edgesdk.server.running import strict_names
from edgesdk.text.encode_prompt import Prompt
from edgesdk.text.messages import Message
from edgesdk.text.tools import Tool

_MOST_PROMPTS = 64


def chat_ask(document: ChatDocument) -> Ask:
    """What a chat asks.

    Raises:
        Refused: two options contradict each other.
    """
    if document.top_logprobs is not None and not document.logprobs:
        raise Refused(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    limits = {document.max_tokens, document.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise Refused(
            400, "max_tokens and max_completion_tokens differ; give one of them", param="max_tokens"
        )
    options = _drawing(document).add(
        json_schema=schema_of(document.response_format),
        logprobs=(document.top_logprobs or 0) if document.logprobs else None,
        tools=plain_functions(document.tools) if document.tools else None,
        tool_choice=document.tool_choice,
        template_variables=document.chat_template_kwargs,
        thinking_tokens=document.thinking_tokens,
    )
    options.said["max_tokens"] = next(iter(limits), None)
    return Ask(
        options.said,
        messages=cast("Sequence[Message]", document.messages),
        thinks=document.enable_thinking,
        effort=document.reasoning_effort,
        one_call=document.parallel_tool_calls is False,
        strict=strict_names(cast("Sequence[Tool]", document.tools or ())),
    )


def completion_asks(document: CompletionDocument) -> list[Ask]:
    """What a completion asks, for each of its prompts.

    Raises:
        Refused: there are none, or too many.
    """
    options = _drawing(document).add(logprobs=document.logprobs).said
    options["max_tokens"] = document.max_tokens or 16  # OpenAI's default
    prompts = _prompts(document.prompt)
    return [Ask(options, prompt=prompt) for prompt in prompts]


def schema_of(asked: ResponseFormat | None) -> JsonObject | bool | None:
    """The schema that an answer must follow; None for free text.

    Raises:
        Refused: it is missing.
    """
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return {"type": "object"}
    if asked.json_schema is None or asked.json_schema.schema_ is None:
        raise Refused(400, "response_format has no json_schema.schema", param="response_format")
    return asked.json_schema.schema_


def plain_functions(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Tools as models are told of them: whether one is strict is for the server.

    Raises:
        Refused: one is no function.
    """
    plain: list[JsonObject] = []
    for place, tool in enumerate(tools):
        kind, inner = tool.get("type"), tool.get("function")
        if kind != "function" or not isinstance(inner, dict):
            raise Refused(
                400,
                f"tools[{place}] has the type {str(kind)[:40]!r}, expected 'function' with its description",
                param="tools",
            )
        plain.append(
            {
                "type": "function",
                "function": {name: value for name, value in inner.items() if name != "strict"},
            }
        )
    return plain


def sampling(document: Sampling) -> Options:
    """The options that all interfaces share."""
    return Options().add(
        temperature=document.temperature,
        top_p=document.top_p or None,
        top_k=1 if document.top_p == 0 else document.top_k,
        min_p=document.min_p,
        typical_p=document.typical_p,
        repetition_penalty=document.repetition_penalty,
        seed=document.seed,
        presence_penalty=document.presence_penalty,
        frequency_penalty=document.frequency_penalty,
        priority=document.priority,
        deadline_s=document.deadline_s,
    )


def _drawing(document: Drawing) -> Options:
    stop = document.stop
    return sampling(document).add(
        n=document.n,
        stop=[stop] if isinstance(stop, str) else stop,
        logit_bias=_biases(document.logit_bias),
        ignore_eos=document.ignore_eos,
        regex=document.regex,
        lark=document.lark,
    )


def _biases(asked: dict[str, float] | None) -> dict[int, float] | None:
    """Biases by token id; -100 bans, as OpenAI says."""
    if asked is None:
        return None
    found: dict[int, float] = {}
    for token, bias in asked.items():
        if not token.isdecimal() or not token.isascii() or len(token) > 9:
            raise Refused(400, f"logit_bias names {token[:40]!r}, expected a token id", param="logit_bias")
        found[int(token)] = float("-inf") if bias <= -100 else bias
    return found


def _prompts(asked: str | list[str] | list[int] | list[list[int]]) -> list[Prompt]:
    if isinstance(asked, str):
        return [asked]
    if asked and all(isinstance(each, int) for each in asked):
        return [cast("list[int]", asked)]
    if not 1 <= len(asked) <= _MOST_PROMPTS:
        raise Refused(400, f"prompt has {len(asked)} prompts, expected 1 to {_MOST_PROMPTS}", param="prompt")
    return list(cast("list[str] | list[list[int]]", asked))
