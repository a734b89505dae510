"""A shallow stack beside the whole one: a second entry into the same file, on the same weights.

It goes without some halves of the stack that is written, and without a repair, so it needs no weight of its
own: a draft that the whole model checks later costs the description of a graph. It has few T, because each
takes time whenever the file is loaded, for the whole stack too (docs/decisions/0012).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgesdk.bundle.manifest import StepShape, Variant
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.weight_numbers import weight_numbers
from edgesdk_converters.step_sizes import resizable_sizes
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip

SUFFIX = "-shallow"
SHALLOW_PARITY_NAME = "parity-shallow.npz"
_PREFIX = "shallow_"
_TOKENS = (1, 8, 128)


@dataclasses.dataclass(frozen=True)
class ShallowStack:
    """What is written beside a whole stack.

    Attributes:
        program: the whole one's without some halves, on its very weights.
        steps: sizes.
    """

    program: Program
    steps: tuple[StepShape, ...]

    def variant(self, whole: Variant, weights: QuantisedWeights) -> Variant:
        """The entry of this stack into the file of the whole one, which has these weights."""
        used = {value.name for value in self.program.graph.weights}
        return dataclasses.replace(
            whole,
            name=whole.name + SUFFIX,
            transforms=self.program.history,
            steps=self.steps,
            decoder=self.program.spec,
            weights=tuple(record for record in whole.weights if record.name in used),
            numbers=weight_numbers(self.program, weights),
        )


def shallow_stack(
    program: Program,
    request: str,
    context: int,
    sizes: Callable[[int], tuple[StepShape, ...]] = resizable_sizes,
) -> ShallowStack:
    """Takes a shallow stack from the program that is written.

    Args:
        program: the whole stack, after every other transform.
        request: what it goes without, in the grammar of `--skip-layers`.
        context: longest sequence, in tokens.
        sizes: of the whole stack.

    Raises:
        TransformError: the stack lacks one of the halves, or nothing with cells would be left.
        UnsupportedOption: the request is not in the grammar.
    """
    steps = tuple(
        dataclasses.replace(step, signature=_PREFIX + step.signature)
        for step in sizes(context)
        if step.tokens in _TOKENS
    )
    return ShallowStack(skip_layers(program, parse_skip(request)), steps)
