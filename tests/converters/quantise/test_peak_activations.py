"""Peaks of what linear layers read."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.graph import rebuild
from edgesdk_converters.quantise.peak_activations import outlier_channels, peak_activations


def test_peaks_are_those_of_every_row_of_every_text(make_program, tokens):
    program = make_program("plain")
    texts = [tokens[:9], tokens[9:]]
    peaks = peak_activations(program, texts)
    for value in ("layers.1.attn_norm.out", "layers.0.gated", "final_norm.out"):
        graph = rebuild(program.graph, program.graph.nodes, program.graph.weights)
        graph = type(graph)(graph.inputs, graph.weights, graph.nodes, (value,), graph.values)
        seen = [evaluate(graph, program.weights, sequence_inputs(program, [t]))[value] for t in texts]
        np.testing.assert_allclose(peaks[value], np.abs(np.concatenate(seen)).max(axis=0), rtol=1e-6)


def test_the_largest_channels_of_normed_inputs_are_chosen(make_program, tokens):
    program = make_program("plain")
    peaks = peak_activations(program, [tokens])
    channels = outlier_channels(program, peaks, 2)
    norm = peaks["layers.0.attn_norm.out"]
    assert channels["layers.0.q"] == channels["layers.0.v"] == tuple(sorted(np.argsort(-norm)[:2]))
    assert {name.rsplit(".")[-1] for name in channels} == {"q", "k", "v", "gate", "up", "embed"}


def test_no_text_is_refused(make_program):
    with pytest.raises(TransformError, match="needs tokens, got none"):
        peak_activations(make_program("plain"), [np.zeros(0, np.int32)])
