"""Refuses, for a decoder whose tokens see the whole text, what belongs to logits or to cells.

Such a decoder gives states only (docs/decisions/0051). What is read is its configuration, no weight.
"""

from __future__ import annotations

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.convert_options import CheckedOptions, ConvertOptions
from edgesdk_converters.targets import TARGETS

_WHAT = "tokens of this model see the whole text, and it gives states only"


def check_whole_text(checkpoint: Checkpoint, options: ConvertOptions, checked: CheckedOptions) -> None:
    """Checks options against a checkpoint; a causal one passes.

    Raises:
        CheckpointError: its configuration is not understood.
        UnsupportedOption: its tokens see the whole text, and a target or a wish does not go with that.
    """
    spec = read_spec(checkpoint.config)
    if spec.is_causal:
        return
    without = ", ".join(target.name for target in checked.targets if target.whole_text is None)
    if without:
        takes = ", ".join(target.name for target in TARGETS if target.whole_text is not None)
        raise UnsupportedOption(
            f"{_WHAT}, which the target {takes} holds, found {without}; give --target {takes}"
        )
    wishes = {
        "a draft": options.draft is not None,
        "streams": options.streams is not None,
        "adapters beside the weights": bool(options.adapters),
        "exits": options.exits is not None,
        "a shallow stack": options.shallow is not None,
        "hidden states": options.hidden_states,
        "fewer layers or tokens": options.reshaping.changes,
        f"{options.cells} cells": options.cells != "float32",
        "a budget": options.budget is not None,
    }
    wish = next((name for name, wished in wishes.items() if wished), None)
    if wish is not None:
        raise UnsupportedOption(f"{_WHAT}: {wish} cannot be had; leave that out")
    for target in checked.targets:
        target.steps_of(spec, min(options.context, spec.context))
