"""A conversation to the text that puts it to the model: checked before and after the template has its say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgesdk.errors import EdgeError
from edgesdk.text.messages import (
    Message,
    check_all_shown,
    plain_messages,
    plain_tools,
    shows_python,
    with_text_arguments,
)
from edgesdk.text.tools import Tool

if TYPE_CHECKING:
    from edgesdk.text.chat_template import ChatTemplate, TemplateVariables  # with jinja2, for templates only


def render_conversation(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Tool] | None,
    variables: TemplateVariables | None = None,
) -> str:
    """The prompt of a conversation, up to where the answer begins.

    The role `developer`, which OpenAI's newer interface has for `system`, is `system` to a template that does
    not know it.

    Raises:
        UnsupportedOption: a message is not as it should be, or the template leaves it out, or it does not
            read a variable.
        EdgeError: the template fails.
    """
    plain, functions = plain_messages(messages), plain_tools(tools) or None

    def render(some: Sequence[Message]) -> str:
        return template.render(some, add_generation_prompt=True, tools=functions, variables=variables)

    if not template.mentions("developer", with_tools=functions is not None):
        plain = [{**each, "role": "system"} if each["role"] == "developer" else each for each in plain]
    try:
        text = render(plain)
        wants_text = shows_python(plain, text)
    except EdgeError:
        texts = with_text_arguments(plain)
        if texts == plain:
            raise
        wants_text = True
    if wants_text:
        plain = with_text_arguments(plain)
        text = render(plain)
    check_all_shown(plain, text, render)
    return text
