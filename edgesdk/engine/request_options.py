"""The options of a request to the engine, as keyword arguments with types (PEP 692)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.options import GenerationKeywords, GenerationOptions
from edgesdk.text.tool_calls import Tool, ToolChoice


class RequestOptions(GenerationKeywords, total=False):
    """What may be said of a request; what is left out takes the bundle's recommendation or changes nothing.

    Attributes:
        n: answers to the one prompt, whose cells they share; each draws with a seed of its own.
        priority: higher goes first, as if it had come that much earlier.
        deadline_s: ends after this many seconds, the queue included, keeping what there is.
        tools: functions that the model may call, with messages only; its calls are in
            `Completion.tool_calls`, checked against the schemas of the functions.
        tool_choice: `auto` leaves it to the model; `required` makes the answer one valid call, a function's
            name as OpenAI writes it a call of that one; `none` tells the model of no function.
        template_variables: values of what else the chat template reads, such as `enable_thinking`; with
            messages only.

    The others are those of `GenerationOptions`.
    """

    n: int
    priority: int
    deadline_s: float | None
    tools: Sequence[Tool] | None
    tool_choice: ToolChoice
    template_variables: Mapping[str, JsonValue] | None


_OWN = frozenset({"n", "priority", "deadline_s", "tools", "tool_choice", "template_variables"})


def generation_options(options: RequestOptions) -> GenerationOptions:
    """What `options` say about the answer itself."""
    keywords = {name: value for name, value in options.items() if name not in _OWN}
    return GenerationOptions(**cast(GenerationKeywords, keywords))
