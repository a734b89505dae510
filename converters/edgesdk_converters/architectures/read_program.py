"""A checkpoint as the program that everything begins with: its decoder, its weights, nothing changed yet."""

from __future__ import annotations

from edgesdk.bundle.manifest import TransformRecord
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program


def read_program(checkpoint: Checkpoint, history: tuple[TransformRecord, ...] = ()) -> Program:
    """Reads configuration and names; no weight is loaded.

    Args:
        checkpoint: opened.
        history: what was done to it before.

    Raises:
        CheckpointError: the configuration is not understood, or a tensor is missing, of another shape, or
            there without being known.
    """
    spec = read_spec(checkpoint.config)
    return Program(spec, build_decoder(spec), weights_for(checkpoint, spec), history)
