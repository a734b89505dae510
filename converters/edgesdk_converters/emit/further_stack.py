"""A further stack for the file of a model: another entry into some of its weights."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.stack_record import StackRecord
from edgesdk.bundle.step_contract import StepContract
from edgesdk.errors import EmitError
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights


@dataclass(frozen=True)
class FurtherStack:
    """What is written beside a model.

    Attributes:
        program: its graph. What weights it has in common with the model are the same under the same names.
        steps: its sizes, with signatures of their own.
        weights: its weights under a recipe, where it has some of its own; None for those of the model.
        contract: what it takes and gives, where that is not what a decoder does.
    """

    program: Program
    steps: tuple[StepShape, ...]
    weights: QuantisedWeights | None = None
    contract: StepContract | None = None

    def weights_beside(self, program: Program, weights: QuantisedWeights) -> QuantisedWeights:
        """The weights to write it with, beside a model.

        Args:
            program: the model.
            weights: its weights under a recipe.

        Raises:
            EmitError: it has other numbers under a name of the model's: constants are shared by name.
        """
        if self.weights is None:
            if self.program.weights is not program.weights:
                raise EmitError(
                    "the shallow stack has weights of its own, so it cannot share a file; make it with "
                    "skip_layers from the program that is written, without a repair"
                )
            return weights
        common = {value.name for value in self.program.graph.weights} & set(weights)
        for name in sorted(common):
            if self.weights.digest(name) != weights.digest(name):
                raise EmitError(f"a further stack has other numbers under the name {name!r}")
        return self.weights


@dataclass(frozen=True)
class WrittenParts:
    """A decoder in parts, beside the whole one of the same variant.

    Attributes:
        stacks: with their sizes, in the order of the records.
        records: what the manifest says of each.
    """

    stacks: tuple[FurtherStack, ...]
    records: tuple[StackRecord, ...]

    @property
    def steps(self) -> tuple[StepShape, ...]:
        """Sizes of all parts."""
        return tuple(step for stack in self.stacks for step in stack.steps)
