"""What a request is about, a prompt or a conversation with its tools, as token ids."""

from __future__ import annotations

from collections.abc import Sequence

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
    if not tools and options.get("tool_choice", "auto") == "required":
        raise UnsupportedOption("tool_choice is 'required', but there are no tools")
    answers = None
    if tools:
        template = model.chat_template
        if messages is None or template is None:
            raise UnsupportedOption("tools go with messages, for a model that has a chat template")
        answers = ToolAnswers(template, model.tokenizer, tools)
    if messages is not None:
        return model.render_chat(messages, tools=tools), answers
    return encode_prompt(prompt if prompt is not None else (), model.tokenizer, model.full_context), answers
