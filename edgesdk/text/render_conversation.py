"""A conversation to the text that puts it to the model: checked before and after the template has its say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgesdk.text.messages import Message, check_all_shown, plain_messages, plain_tools
from edgesdk.text.tool_calls import Tool

if TYPE_CHECKING:
    from edgesdk.text.chat_template import ChatTemplate  # with jinja2, which only templates need


def render_conversation(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Tool] | None
) -> str:
    """The prompt of a conversation, up to where the answer begins.

    Raises:
        UnsupportedOption: a message is not as it should be, or the template leaves it out.
        EdgeError: the template fails.
    """
    plain, functions = plain_messages(messages), plain_tools(tools) or None

    def render(some: Sequence[Message]) -> str:
        return template.render(some, add_generation_prompt=True, tools=functions)

    text = render(plain)
    check_all_shown(plain, text, render)
    return text
