"""Calls of functions in a model's answer: finding them, and holding them against their schemas.

Models say a call in the form that their chat template taught them (`call_format` finds it, `call_forms`
lists those that are known). What a reasoning model only thinks of calling is no call. Nothing is ever called
here, and prompts are rendered by `chat_template`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgesdk.errors import ToolCallError
from edgesdk.text.call_format import call_format as call_format
from edgesdk.text.call_forms import CALL_FORMS
from edgesdk.text.call_grammar import call_grammar as call_grammar
from edgesdk.text.call_styles import BadCallError, RawCall, short
from edgesdk.text.thoughts import after_thought
from edgesdk.text.tools import Tool as Tool
from edgesdk.text.tools import ToolCall as ToolCall
from edgesdk.text.tools import ToolChoice as ToolChoice
from edgesdk.text.tools import argument_validators
from edgesdk.text.tools import described as described

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def parse_tool_calls(
    text: str, form: str, tools: Sequence[Tool], *, thought_end: str | None = None
) -> tuple[ToolCall, ...]:
    """The calls in an answer, in order; none if it holds plain text.

    Args:
        text: the answer with its special tokens, without end tokens.
        form: how calls are written, a name of `CALL_FORMS`.
        tools: functions that may be called.
        thought_end: the mark that ends a thought which the prompt has begun; see `thoughts.open_thought`.

    Raises:
        ToolCallError: a call is cut, is not written in the form, names an unknown function, or its arguments
            do not satisfy the function's schema.
        UnsupportedOption: a tool is not described as it should be.
        MissingExtra: the jsonschema package is not installed.
    """
    validators = argument_validators(tools)
    answer = after_thought(text, thought_end)
    try:
        calls = CALL_FORMS[form].style.read(answer, described(tools))
    except BadCallError as error:
        raise ToolCallError(str(error), text) from error
    return tuple(_checked(call, validators, text) for call in calls)


def _checked(call: RawCall, validators: Mapping[str, Validator], text: str) -> ToolCall:
    name, arguments = call.name, call.arguments
    if not isinstance(name, str) or name not in validators:
        raise ToolCallError(
            f"the model called {short(name)}, expected one of {', '.join(sorted(validators))}", text
        )
    if not isinstance(arguments, dict):
        raise ToolCallError(f"the arguments of {name} are {short(arguments)}, expected an object", text)
    from jsonschema.exceptions import best_match

    try:
        found = best_match(validators[name].iter_errors(arguments))
    except RecursionError as error:
        raise ToolCallError(f"the arguments of {name} are nested too deeply to be checked", text) from error
    if found is not None:
        raise ToolCallError(
            f"the arguments of {name} break its schema: {found.json_path}: {short(found.message)}", text
        )
    return ToolCall(name, arguments)
