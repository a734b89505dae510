"""A conversation as a caller gives it: messages, and what belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgesdk.text.messages import Message
from edgesdk.text.tools import Tool, ToolChoice

if TYPE_CHECKING:
    from edgesdk.text.chat_template import TemplateVariables  # with jinja2, which only templates need


@dataclass(frozen=True)
class Conversation:
    """What is to be answered by the model's chat template; nothing of it has been checked.

    Attributes:
        messages: each with `role` and `content`.
        tools: functions that the model may call.
        tool_choice: whether it has to.
        template_variables: values of what else the template reads.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] | None = None
    tool_choice: ToolChoice = "auto"
    template_variables: TemplateVariables | None = None
