"""From the words of a plan to a model's token ids.

The instruction stands in the user's message, because some chat templates have no system message; what many
prompts have in common stands first, so that they can share its cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgesdk.bundle.records import JsonValue
from edgesdk.model import Model


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

    def ids(self, *parts: str) -> list[int]:
        """Token ids of one message, up to where the answer begins.

        Args:
            parts: of the message; empty lines are put between them, and empty ones left out.

        Raises:
            CapacityError: they are far too long.
            UnsupportedOption: the template does not read a variable.
        """
        text = "\n\n".join(part for part in parts if part)
        if self._model.chat_template is None:
            text += "\n\nAnswer:"
        return self._model.render_prompt(text, template_variables=self._variables)


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
