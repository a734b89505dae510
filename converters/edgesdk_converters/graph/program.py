"""A graph with its weights and its history: what transforms take and give, and emitters write."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import TransformRecord
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.weights import Weights


@dataclass(frozen=True)
class Program:
    """A decoder ready to be transformed, evaluated or emitted.

    Attributes:
        spec: shape of the decoder.
        graph: the step graph.
        weights: numbers for every weight of the graph.
        history: transforms made so far, oldest first.
    """

    spec: DecoderSpec
    graph: Graph
    weights: Weights
    history: tuple[TransformRecord, ...] = ()
