"""A shallow stack beside the whole one: a second entry into the same file, on the same weights.

It goes without some halves of the stack that is written, and without a repair, so it needs no weight of its
own: a draft that the whole model checks later costs the description of a graph. It has few T, because each
takes time whenever the file is loaded, for the whole stack too (docs/decisions/0012).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgesdk.bundle.manifest import StepShape, Variant
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.program_contract import main_record
from edgesdk_converters.quantise.activation_record import with_exact_activations
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.weight_numbers import weight_numbers
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import SkipRequest

SUFFIX = "-shallow"
SHALLOW_PARITY_NAME = "parity-shallow.npz"
_PREFIX = "shallow_"
_TOKENS = (1, 8, 128)


@dataclasses.dataclass(frozen=True)
class ShallowStack:
    """A shallow stack as it is asked for.

    Attributes:
        request: what it goes without.
        probe: file of the logits that it is compared with.
    """

    request: SkipRequest
    probe: str = SHALLOW_PARITY_NAME

    def of(self, program: Program) -> Program:
        """The stack of a program: of the checkpoint's for a reference, of the prepared one to be written.

        Raises:
            TransformError: the program lacks one of the halves, or nothing with cells would be left.
        """
        return skip_layers(program, self.request)

    def written(self, program: Program, steps: Sequence[StepShape]) -> WrittenStack:
        """What is written beside a whole stack.

        Args:
            program: the whole stack, after every other transform.
            steps: its sizes.

        Raises:
            TransformError: as for `of`.
        """
        fewer = [
            dataclasses.replace(step, signature=_PREFIX + step.signature)
            for step in steps
            if step.tokens in _TOKENS
        ]
        return WrittenStack(self.of(program), tuple(fewer))


@dataclasses.dataclass(frozen=True)
class WrittenStack:
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
            transforms=with_exact_activations(self.program.history, self.program, weights),
            steps=self.steps,
            decoder=self.program.spec,
            stacks=main_record(self.program),
            weights=tuple(record for record in whole.weights if record.name in used),
            numbers=weight_numbers(self.program, weights),
        )
