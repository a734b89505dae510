"""How products read their inputs where kernels round those to 8 bits: as they come, or without that loss.

A kernel with int8 activations rounds each row of its input to 256 steps. `exact` gives it two rows, the input
and what the rounding loses, and adds the results: the loss is then rounded in turn, to a part in 65,000.
Weights are read once for both rows, so that a step that is bound by reading them pays little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.step_shape import FEW
from edgesdk_converters.quantise.weight_pattern import check_pattern, matches

Activations = Literal["fast", "exact"]

FEW_TOKENS = FEW
"""Most tokens of a step that verifies drafts or decodes for several; more are a prompt's."""


@dataclass(frozen=True)
class ActivationRule:
    """Products with weights that match a pattern.

    Attributes:
        pattern: of the weight's name, in the grammar of `weight_pattern`.
        decode: in steps of one token.
        few: in steps of 2 to 16.
        prompt: in steps of more.
    """

    pattern: str
    decode: Activations = "exact"
    few: Activations = "exact"
    prompt: Activations = "exact"

    def __post_init__(self) -> None:
        """Refuses a pattern that is none."""
        check_pattern(self.pattern)

    def matches(self, weight: str) -> bool:
        """Whether the rule speaks of a weight."""
        return matches(self.pattern, weight)

    def at(self, tokens: int) -> Activations:
        """What it says of steps of so many tokens."""
        if tokens == 1:
            return self.decode
        return self.few if tokens <= FEW_TOKENS else self.prompt
