"""From a caller's words and options to a request of the engine's; whatever is wrong with it shows here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from edgesdk.decoding.request_reader import RequestReader
from edgesdk.engine.branch import Request, SessionState
from edgesdk.engine.request_options import RequestOptions, check_options
from edgesdk.errors import UnsupportedOption
from edgesdk.text.conversation import Conversation
from edgesdk.text.encode_prompt import Prompt
from edgesdk.text.messages import Message, plain_tools


def prepare_request(
    reader: RequestReader,
    asked: Prompt | Conversation,
    options: RequestOptions,
    context: int,
    seats: int,
    *,
    session: SessionState | None = None,
    answers: bool = True,
) -> Request:
    """Checks a request and makes what it needs.

    Args:
        reader: the model's.
        asked: from `prompt_or_conversation`.
        options: what the caller said.
        context: most tokens of prompt and answer.
        seats: most samples.
        session: what it goes on with.
        answers: whether tokens are to be chosen, or the prompt only run.

    Raises:
        UnsupportedOption: an option or a message has no meaning, or the prompt is empty or has unknown ids.
        CapacityError: the prompt does not fit.
        EdgeError: the chat template fails.
    """
    submitted_s = time.perf_counter()
    checked = check_options(options, seats)
    samples = checked.samples if answers else 0
    held = () if session is None else session.tokens.tolist()
    return Request(
        reader.read(
            asked,
            checked.answer,
            context,
            samples=samples,
            held=held,
            calls_as_text=checked.calls_as_text,
            bound=None if session is None else session.gates,
        ),
        priority=checked.priority,
        deadline_s=None if checked.deadline_s is None else submitted_s + checked.deadline_s,
        submitted_s=submitted_s,
        session=session,
    )


def prompt_or_conversation(
    prompt: Prompt | None, messages: Sequence[Message] | None, options: RequestOptions
) -> Prompt | Conversation:
    """What a request is about.

    Raises:
        UnsupportedOption: there are both or neither, or a prompt comes with options that only a chat template
            could honour.
    """
    if (prompt is None) == (messages is None):
        raise UnsupportedOption("a request has either a prompt or messages, found both or neither")
    tools, choice = options.get("tools"), options.get("tool_choice", "auto")
    variables = options.get("template_variables")
    if messages is not None:
        return Conversation(messages, tools, choice, variables)
    if plain_tools(tools) or choice not in (None, "auto", "none"):
        raise UnsupportedOption("tools go with messages; this request has a plain prompt")
    if variables is not None and (not isinstance(variables, Mapping) or variables):
        raise UnsupportedOption("template variables go with messages; this request has a plain prompt")
    return () if prompt is None else prompt
