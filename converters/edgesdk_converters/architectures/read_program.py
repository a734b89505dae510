"""A checkpoint as the program that everything begins with: its decoder, its weights, nothing changed yet."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.graph.decoder import PROJECTION, build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights


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
    weights, matrix = weights_for(checkpoint, spec), checkpoint.projection
    if matrix is None:
        return Program(spec, build_decoder(spec), weights, history)
    if spec.is_causal:
        raise CheckpointError(
            "the checkpoint has dense modules behind pooling, which are known of models whose tokens see the "
            "whole text alone (EmbeddingGemma)"
        )
    spec = replace(spec, projection=len(matrix))
    projected = DerivedWeights(weights, {PROJECTION: Derived(matrix.shape, lambda _: matrix)}, frozenset())
    return Program(spec, build_decoder(spec), projected, history)
