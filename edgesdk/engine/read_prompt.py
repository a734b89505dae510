"""What a request is about, a prompt or a conversation with its tools, as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgesdk.decoding.tool_answers import ToolAnswers
from edgesdk.engine.request_options import RequestOptions
from edgesdk.errors import UnsupportedOption
from edgesdk.model import Model
from edgesdk.text.encode_prompt import Prompt, encode_prompt
from edgesdk.text.messages import Message, plain_tools


def read_prompt(
    model: Model, prompt: Prompt | None, messages: Sequence[Message] | None, options: RequestOptions
) -> tuple[list[int], ToolAnswers | None]:
    """Token ids of a prompt or a conversation, and what reads the answer's tool calls.

    Raises:
        UnsupportedOption: there are both or neither, or one is not as it should be.
        CapacityError: it is far too long.
        EdgeError: the chat template fails.
    """
    if (prompt is None) == (messages is None):
        raise UnsupportedOption("a request has either a prompt or messages, found both or neither")
    tools = plain_tools(options.get("tools"))
    if messages is None:
        check_no_template(options)
        return encode_prompt(() if prompt is None else prompt, model.tokenizer, model.full_context), None
    choice = options.get("tool_choice", "auto")
    answers = ToolAnswers.of(model.chat_template, model.tokenizer, tools, choice)
    ids = model.render_chat(
        messages,
        tools=None if answers is None else answers.tools,
        template_variables=options.get("template_variables"),
    )
    return ids, answers


def check_no_template(options: RequestOptions) -> None:
    """Refuses options of a plain prompt that only a chat template could honour.

    Raises:
        UnsupportedOption: it has one.
    """
    if plain_tools(options.get("tools")) or options.get("tool_choice", "auto") not in (None, "auto", "none"):
        raise UnsupportedOption("tools go with messages; this request has a plain prompt")
    variables = options.get("template_variables")
    if variables is not None and (not isinstance(variables, Mapping) or variables):
        raise UnsupportedOption("template variables go with messages; this request has a plain prompt")
