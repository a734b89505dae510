"""What changes the model itself before anything is quantised: fewer tokens, fewer layers.

A pruned vocabulary gives another checkpoint, a shallower stack another program; both are what every
variant is then compared with, because no recipe could make good what is no longer there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.graph.program import Program
from edgesdk_converters.layers.budget import choose_layers, parse_layer_budget
from edgesdk_converters.layers.repair_stack import RepairMethod, repair_stack
from edgesdk_converters.transforms.prune_head import prune_head
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.prune_request import parse_prune_option
from edgesdk_converters.vocabulary.prune_vocab import prune_vocab

Report = Callable[[str], None]


@dataclass(frozen=True)
class Reshaping:
    """What to leave out.

    Attributes:
        prune_vocab: tokens to keep (`edgesdk_converters.vocabulary.prune_request`); None for all.
        skip_layers: layers to leave out (`edgesdk_converters.transforms.skip_request`); None for none.
        layer_budget: leave out what a budget allows (`edgesdk_converters.layers.budget`); None for nothing.
        repair_layers: fit the layer before each gap to what is gone; None leaves it as it is.
    """

    prune_vocab: str | None = None
    skip_layers: str | None = None
    layer_budget: str | None = None
    repair_layers: RepairMethod | None = None

    def check(self) -> None:
        """Refuses what has no meaning, before anything is read.

        Raises:
            UnsupportedOption: a part is not in its grammar, or two contradict each other.
        """
        if self.prune_vocab is not None:
            parse_prune_option(self.prune_vocab)
        if self.skip_layers is not None:
            parse_skip(self.skip_layers)
        if self.layer_budget is not None:
            parse_layer_budget(self.layer_budget)
        if self.skip_layers is not None and self.layer_budget is not None:
            raise UnsupportedOption(
                "layers are named and chosen by budget at once; give skip-layers or layer-budget"
            )
        if self.repair_layers is not None and self.skip_layers is None and self.layer_budget is None:
            raise UnsupportedOption("there is nothing to repair; give skip-layers or layer-budget, too")

    @property
    def changes(self) -> bool:
        """Whether anything is left out."""
        return (self.prune_vocab, self.skip_layers, self.layer_budget) != (None, None, None)

    @property
    def needs_text(self) -> bool:
        """Whether calibration text is run."""
        return self.layer_budget is not None or self.repair_layers is not None

    def prune(self, checkpoint: Checkpoint, say: Report) -> tuple[Checkpoint, KeptTokens | None]:
        """The checkpoint with the tokens that stay, and which those are.

        Where the head alone is to be pruned, the checkpoint stays as it is.

        Raises:
            UnsupportedOption: the request cannot be met.
        """
        if self.prune_vocab is None:
            return checkpoint, None
        request = parse_prune_option(self.prune_vocab)
        say(f"choosing tokens: {request.describe()}")
        kept = choose_tokens(checkpoint, request)
        return checkpoint if kept.output_only else prune_vocab(checkpoint, kept), kept

    def narrow(self, program: Program, kept: KeptTokens | None) -> Program:
        """The program with logits for the tokens that stay, where the head alone is pruned.

        Args:
            program: from `shorten`.
            kept: from `prune`.
        """
        return prune_head(program, kept.rows) if kept is not None and kept.output_only else program

    def shorten(self, program: Program, texts: Sequence[NDArray[np.int32]], say: Report) -> Program:
        """The program with the layers that stay.

        Args:
            program: the whole stack.
            texts: calibration text, for what `needs_text`.
            say: told what happens.

        Raises:
            UnsupportedOption: the request cannot be met.
        """
        if self.layer_budget is not None:
            say(f"choosing layers: {self.layer_budget}")
            budget = parse_layer_budget(self.layer_budget)
            return choose_layers(program, texts, budget, repair=self.repair_layers, report=say).program
        if self.skip_layers is None:
            return program
        shallow = skip_layers(program, parse_skip(self.skip_layers))
        if self.repair_layers is None:
            return shallow
        return repair_stack(program, shallow, texts, self.repair_layers, report=say).program
