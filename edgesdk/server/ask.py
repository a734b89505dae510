"""What a client asks of a model: what every interface turns its document into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgesdk.bundle.records import JsonValue
from edgesdk.engine.request_options import RequestOptions
from edgesdk.server.refusal import Refused
from edgesdk.text.chat_template import ChatTemplate
from edgesdk.text.encode_prompt import Prompt
from edgesdk.text.messages import Message
from edgesdk.text.tools import Tool

_SWITCHES = ("enable_thinking", "thinking")
"""What chat templates call the switch of thinking."""

_EFFORT = "reasoning_effort"
_NO_EFFORT = ("none", "minimal")


@dataclass(frozen=True)
class Ask:
    """A request to a model.

    Attributes:
        options: of the engine; tools are among them.
        messages: a conversation; None for a prompt.
        prompt: text or token ids, without messages.
        thinks: whether the model is to think first; None for its template's own.
        effort: how much, in the words of OpenAI's interface.
        one_call: at most one call of a function.
        strict: names of functions whose arguments must satisfy their schemas.
    """

    options: RequestOptions
    messages: Sequence[Message] | None = None
    prompt: Prompt | None = None
    thinks: bool | None = None
    effort: str | None = None
    one_call: bool = False
    strict: frozenset[str] = frozenset()

    @property
    def tools(self) -> Sequence[Tool]:
        """The functions that the model may call."""
        if self.options.get("tool_choice") == "none":
            return ()
        return self.options.get("tools") or ()

    def options_for(self, template: ChatTemplate | None) -> RequestOptions:
        """The engine's options for a model with this template.

        Raises:
            Refused: the template has no switch for what was asked.
        """
        options = self.options.copy()
        variables = dict(options.get("template_variables") or {})
        if self.thinks is not None or self.effort is not None:
            variables |= self._switches(template, variables)
        if variables:
            options["template_variables"] = variables
        if self.tools:
            options["calls_as_text"] = True
        return options

    def _switches(
        self, template: ChatTemplate | None, given: Mapping[str, JsonValue]
    ) -> dict[str, JsonValue]:
        def reads(name: str) -> bool:
            return template is not None and template.mentions(name, with_tools=bool(self.tools))

        switch = next((name for name in _SWITCHES if reads(name)), None)
        found: dict[str, JsonValue] = {}
        if self.thinks is not None:
            if switch is None and self.thinks:
                raise Refused(400, "the model's chat template has no switch for thinking", param="thinking")
            if switch is not None:
                found[switch] = self.thinks
        if self.effort is not None:
            if reads(_EFFORT):
                found[_EFFORT] = self.effort
            elif switch is not None:
                found[switch] = self.effort not in _NO_EFFORT
            elif self.effort not in _NO_EFFORT:
                raise Refused(
                    400,
                    f"the model's chat template reads no {_EFFORT} and has no switch for thinking",
                    param=_EFFORT,
                )
        return {name: value for name, value in found.items() if name not in given}


@dataclass
class Options:
    """Collects the options of a request, leaving out what was not said."""

    said: RequestOptions = field(default_factory=RequestOptions)

    def add(self, **options: object) -> Options:
        """Adds those that are not None."""
        self.said.update({name: value for name, value in options.items() if value is not None})  # type: ignore[typeddict-item]
        return self
