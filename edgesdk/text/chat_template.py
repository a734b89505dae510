"""Chat messages to prompt text, by the model's own jinja2 template.

A template comes from a checkpoint and is not trusted: `render_sandbox` runs it. It knows nothing of token
ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgesdk.bundle.records import JsonValue
from edgesdk.text.render_sandbox import SandboxedTemplate

Message = Mapping[str, JsonValue]


class ChatTemplate:
    """A model's chat template."""

    def __init__(self, source: str, *, bos_token: str | None = None, eos_token: str | None = None) -> None:
        """Remembers the template; it is compiled on first use.

        Args:
            source: jinja2 text.
            bos_token: text of the model's start token, for templates that write it.
            eos_token: the same for the end token.
        """
        self.source = source
        """The template's text."""
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        self._template = SandboxedTemplate(source)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, JsonValue]] | None = None,
    ) -> str:
        """The prompt text of a conversation.

        Args:
            messages: each with `role` and `content`, and whatever else the template reads.
            add_generation_prompt: end with the start of an answer.
            tools: JSON schemas of functions that the model may call.

        Raises:
            EdgeError: the template is broken, refuses the messages, or produces no end of text.
        """
        return self._template.render(
            {
                "messages": [dict(message) for message in messages],
                "tools": None if tools is None else [dict(tool) for tool in tools],
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
                **self._tokens,
            }
        )
