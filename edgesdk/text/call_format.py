"""Which form of calls a chat template teaches: found by rendering a probe, not by reading the template.

A tool with a name of its own is offered; a template that does not write the name ignores tools. Then the
probe is called in a conversation: the form whose reader finds the very calls in what the template wrote is
the model's. Templates that render no calls show the form in the words that come with the tool list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk.text.call_forms import CALL_FORMS, CallForm
from edgesdk.text.call_styles import BadCallError, RawCall
from edgesdk.text.loose_values import NoValueError
from edgesdk.text.messages import shows_python
from edgesdk.text.tools import described

if TYPE_CHECKING:
    from edgesdk.text.chat_template import ChatTemplate, Message

_QUESTION = "probe question"
_NAMES = ("probe_first", "probe_second")
_ARGUMENTS: Mapping[str, JsonValue] = {"probe_key": 'a "b"', "probe_count": 7}
_TOOLS: Sequence[dict[str, JsonValue]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "A probe.",
            "parameters": {
                "type": "object",
                "properties": {
                    "probe_key": {"type": "string", "description": "A text."},
                    "probe_count": {"type": "integer", "description": "A number."},
                },
                "required": ["probe_key"],
            },
        },
    }
    for name in _NAMES
]
_USER: Message = {"role": "user", "content": _QUESTION}


@lru_cache(maxsize=32)
def call_format(template: ChatTemplate | str) -> str:
    """The form of calls that a chat template teaches, by its name in `CALL_FORMS`.

    Args:
        template: a model's, or jinja2 source.

    Raises:
        UnsupportedOption: it puts no tool into the prompt, or teaches a form that is not known here.
    """
    if isinstance(template, str):
        from edgesdk.text.chat_template import ChatTemplate

        template = ChatTemplate(template)
    try:
        prompt = template.render([_USER], tools=_TOOLS)
    except EdgeError as error:
        raise UnsupportedOption(f"the model's chat template does not take tools: {error}") from error
    if _NAMES[0] not in prompt:
        raise UnsupportedOption(
            "the model's chat template has no place for tools: a tool's name is not in the prompt; use a "
            "model trained on them"
        )
    turn = _rendered_calls(template, prompt)
    if turn is None:
        found = next((name for name, form in CALL_FORMS.items() if re.search(form.shown, prompt)), None)
    else:
        found = next((name for name, form in CALL_FORMS.items() if _reads(form, *turn)), None)
    if found is None:
        raise UnsupportedOption(
            "the form of tool calls that the model's chat template teaches is not known (known are "
            f"{', '.join(CALL_FORMS)}); use render_chat and generate, and read the answer yourself"
        )
    return found


def _rendered_calls(template: ChatTemplate, prompt: str) -> tuple[str, int] | None:
    """What a template writes for an answer with calls, and how many; None if it writes no calls."""
    for count in (2, 1):  # Llama 3's templates refuse two
        for as_text in (False, True):  # a few join the arguments to text
            answer: Message = {
                "role": "assistant",
                "content": "",
                "tool_calls": [_call(name, as_text) for name in _NAMES[:count]],
            }
            try:
                text = template.render([_USER, answer], tools=_TOOLS, add_generation_prompt=False)
            except EdgeError:
                continue
            if not as_text and shows_python([answer], text):
                continue
            if text.startswith(prompt):
                turn = text[len(prompt) :]
            else:
                turn = text[text.rfind(_QUESTION) + len(_QUESTION) :]
            # The tool list names them once already, and may come after the question.
            written = sum(text.count(name) > prompt.count(name) for name in _NAMES[:count])
            if written == count:
                return turn, count
            if written and count == 2:
                break  # it writes the first alone
    return None


def _call(name: str, as_text: bool) -> JsonValue:
    arguments: JsonValue = json.dumps(_ARGUMENTS) if as_text else dict(_ARGUMENTS)
    # Nine letters and digits: Mistral's templates refuse other ids.
    identity = f"{name.replace('_', '')[:8]}{len(name) % 10}"
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _reads(form: CallForm, turn: str, count: int) -> bool:
    """Whether a form's reader finds the probe's calls in what the template wrote for them."""
    expected = [RawCall(name, dict(_ARGUMENTS)) for name in _NAMES[:count]]
    if form.last:  # no mark ends such a call, but the template ends its turn
        turn = turn[: turn.rfind(form.last) + 1]
    try:
        return form.style.read(turn, described(_TOOLS)) == expected
    except (BadCallError, NoValueError):
        return False
