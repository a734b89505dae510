"""The options of a request to the engine, as keyword arguments with types (PEP 692)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.option_types import flag, seconds, whole_number
from edgesdk.decoding.options import GenerationKeywords, GenerationOptions
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.text.tools import Tool, ToolChoice


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
        calls_as_text: in a conversation with tools, calls stay in the text as the model writes them, special
            tokens included, unread and unchecked: for callers that read them while they come.

    The others are those of `GenerationOptions`.
    """

    n: int
    priority: int
    deadline_s: float | None
    tools: Sequence[Tool] | None
    tool_choice: ToolChoice
    template_variables: Mapping[str, JsonValue] | None
    calls_as_text: bool


_OWN = frozenset(
    {"n", "priority", "deadline_s", "tools", "tool_choice", "template_variables", "calls_as_text"}
)
_MOST_PRIORITY = 1_000_000


@dataclass(frozen=True)
class CheckedRequest:
    """Options as plain values of the right type.

    Attributes:
        answer: about the answer itself.
        samples: `n`.
        priority: higher goes first.
        deadline_s: seconds that it may take.
        calls_as_text: leave calls in the text.
    """

    answer: GenerationOptions
    samples: int
    priority: int
    deadline_s: float | None
    calls_as_text: bool


def check_options(options: RequestOptions, seats: int) -> CheckedRequest:
    """The options of a request, all but those of its tools.

    Args:
        options: what the caller said.
        seats: most samples.

    Raises:
        UnsupportedOption: one has no meaning.
    """
    keywords = {name: value for name, value in options.items() if name not in _OWN}
    samples = whole_number("n", options.get("n", 1), 1)
    if not 1 <= samples <= seats:
        found = quoted(samples)
        raise UnsupportedOption(f"n is {found}, expected 1 to {seats}, the answers that run at once")
    deadline_s = seconds("deadline_s", options.get("deadline_s"))
    if deadline_s == 0:
        raise UnsupportedOption("deadline_s is 0, expected seconds above 0")
    return CheckedRequest(
        answer=GenerationOptions.of(keywords),
        samples=samples,
        priority=whole_number("priority", options.get("priority", 0), -_MOST_PRIORITY, _MOST_PRIORITY),
        deadline_s=deadline_s,
        calls_as_text=flag("calls_as_text", options.get("calls_as_text", False)),
    )
