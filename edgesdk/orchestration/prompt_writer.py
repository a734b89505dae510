"""From the words of a plan to a model's prompt.

The instruction stands in the user's message, because some chat templates have no system message; what many
prompts have in common stands first, so that they can share its cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgesdk.bundle.records import JsonValue
from edgesdk.engine.engine import Engine
from edgesdk.engine.generation import Generation
from edgesdk.engine.request_options import RequestOptions
from edgesdk.engine.session import Session
from edgesdk.model import Model
from edgesdk.text.messages import Message


@dataclass(frozen=True)
class WrittenPrompt:
    """One prompt.

    Attributes:
        ids: its token ids.
        messages: it as a conversation, so that thoughts are told from the answer; None for a model without
            chat template.
        template_variables: for the conversation.
    """

    ids: list[int]
    messages: Sequence[Message] | None
    template_variables: Mapping[str, JsonValue] | None

    def submit(self, engine: Engine, options: RequestOptions) -> Generation:
        """Hands it in, and waits while the queue is full.

        Raises:
            UnsupportedOption, CapacityError, DeviceError: as `Engine.submit`.
        """
        if self.messages is None:
            return engine.submit(self.ids, block=True, **options)
        with_variables: RequestOptions = {**options, "template_variables": self.template_variables}
        return engine.submit(messages=self.messages, block=True, **with_variables)

    def submit_in(self, session: Session, options: RequestOptions) -> Generation:
        """Hands it in to go on from what a session has of it; the session forgets the rest.

        Raises:
            UnsupportedOption, CapacityError, DeviceError: as `Session.submit`.
        """
        if self.messages is not None:
            with_variables: RequestOptions = {**options, "template_variables": self.template_variables}
            return session.submit(messages=self.messages, **with_variables)
        same = common_length([[*session.tokens, -1], self.ids])
        if same < session.length:
            session.rewind(same)
        return session.submit(self.ids[same:], **options)


class PromptWriter:
    """Writes prompts for one model."""

    def __init__(self, model: Model, template_variables: Mapping[str, JsonValue] | None = None) -> None:
        """Remembers the model.

        Args:
            model: whose template and tokenizer.
            template_variables: values of what else its chat template reads.
        """
        self._model = model
        self._variables = template_variables

    def write(self, *parts: str) -> WrittenPrompt:
        """One message, up to where the answer begins.

        Args:
            parts: of the message; empty lines are put between them, and empty ones left out.

        Raises:
            CapacityError: they are far too long.
            UnsupportedOption: the template does not read a variable.
        """
        text = "\n\n".join(part for part in parts if part)
        if self._model.chat_template is None:
            ids = self._model.render_prompt(f"{text}\n\nAnswer:", template_variables=self._variables)
            return WrittenPrompt(ids, None, None)
        messages: list[Message] = [{"role": "user", "content": text}]
        ids = self._model.render_chat(messages, template_variables=self._variables)
        return WrittenPrompt(ids, messages, self._variables)


def common_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, and at least one less than the shortest has.

    A request has at least one token to run, which gives the logits of its first.
    """
    first, *others = prompts
    length = len(first) - 1
    for other in others:
        length = min(length, len(other) - 1)
        length = next((i for i in range(length) if first[i] != other[i]), length)
    return max(length, 0)
