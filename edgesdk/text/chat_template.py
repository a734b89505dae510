"""Chat messages to prompt text, by the model's own jinja2 template.

A template comes from a checkpoint and is not trusted: `render_sandbox` runs it. A model may have a second
one for conversations with tools. What else a template reads (`enable_thinking`, `documents`, ...) callers
set by name; a name that it does not read is refused. It knows nothing of token ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.text.messages import Message as Message
from edgesdk.text.render_sandbox import SandboxedTemplate
from edgesdk.text.tools import wrap_tools

TemplateVariables = Mapping[str, JsonValue]
"""Values of what a chat template reads besides messages and tools, by name."""

_TOOL_NAMES = ("tools", "xml_tools")
"""What templates call the tools: all but SmolLM3's say `tools`."""

_OWN = frozenset({"messages", *_TOOL_NAMES, "add_generation_prompt", "bos_token", "eos_token"})


class ChatTemplate:
    """A model's chat template."""

    def __init__(
        self,
        source: str,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        tool_source: str | None = None,
    ) -> None:
        """Remembers the template; it is compiled on first use.

        Args:
            source: jinja2 text.
            bos_token: text of the model's start token, for templates that write it.
            eos_token: the same for the end token.
            tool_source: jinja2 text for conversations with tools, where it is another.
        """
        self.source = source
        """The template's text."""
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        self._template = SandboxedTemplate(source)
        self._tool_template = self._template if tool_source is None else SandboxedTemplate(tool_source)

    def mentions(self, word: str, *, with_tools: bool) -> bool:
        """Whether a word stands in the template for conversations with or without tools."""
        return word in (self._tool_template if with_tools else self._template).source

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, JsonValue]] | None = None,
        variables: TemplateVariables | None = None,
    ) -> str:
        """The prompt text of a conversation.

        Args:
            messages: each with `role` and `content`, and whatever else the template reads.
            add_generation_prompt: end with the start of an answer.
            tools: JSON schemas of functions that the model may call.
            variables: values for what else the template reads.

        Raises:
            EdgeError: the template is broken, refuses the messages, or produces no end of text.
            UnsupportedOption: a variable is not read by the template, or is set by other means; or a tool is
                not described as it should be.
        """
        template = self._tool_template if tools else self._template
        given: dict[str, object] = {"tools": None, "documents": None}
        if tools is not None:
            name = _TOOL_NAMES[0]
            if tools and name not in template.variables:
                name = next((other for other in _TOOL_NAMES if other in template.variables), name)
            given[name] = wrap_tools(tools)
        if variables is not None:
            _check_names(variables, template.variables)
            given |= variables
        return template.render(
            given
            | {
                "messages": [dict(message) for message in messages],
                "add_generation_prompt": add_generation_prompt,
                **self._tokens,
            }
        )


def _check_names(variables: TemplateVariables, read: frozenset[str]) -> None:
    if not isinstance(variables, Mapping):
        raise UnsupportedOption(
            f"template_variables is {quoted(variables)}, expected a dict of names and values"
        )
    for name in variables:
        if name in _OWN:
            raise UnsupportedOption(
                f"the template variable {name!r} is set from messages, tools and the tokenizer; leave it out"
            )
        if name not in read:
            names = ", ".join(sorted(read - _OWN)) or "none"
            raise UnsupportedOption(
                f"the model's chat template reads no variable {quoted(name, 60)}; it reads: {names[:300]}"
            )
