"""Separated channels change the graph, not the logits."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.ops import Add, BlockSums, Linear, ScaleColumns
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS, kept_blocks
from edgesdk_converters.quantise.peak_activations import outlier_channels, peak_activations
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.separate_outliers import separate_outliers
from edgesdk_converters.transforms.split_minimums import split_minimums


def assert_same_logits(before, after, tokens):
    expected = next(sequence_logits(before, [tokens]))
    np.testing.assert_allclose(next(sequence_logits(after, [tokens])), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [None, "Q4_1"])
def test_logits_stay(any_program, in_blocks, tokens, kind):
    program = fuse_linears(in_blocks(any_program, lambda name: kind), keep_blocks=True)
    channels = outlier_channels(program, peak_activations(program, [tokens]), 3)
    assert channels
    split = split_minimums(program, kept_blocks(program, LITERT_BLOCKS), positive_scales=True)
    separated = separate_outliers(split, channels)
    assert_same_logits(program, separated, tokens)
    assert separated.history[-1].settings["layers"] == len(channels)


def test_the_large_channels_no_longer_reach_the_large_product(make_program, tokens):
    program = make_program("plain")
    separated = separate_outliers(program, {"layers.0.o": (5, 2)})
    main = next(n for n in separated.graph.nodes if isinstance(n.op, Linear) and n.inputs[1] == "layers.0.o")
    peaks = peak_activations(separated, [tokens])[main.inputs[0]]
    assert not peaks[[2, 5]].any()
    assert (np.delete(peaks, [2, 5]) > 0).all()
    np.testing.assert_array_equal(
        separated.weights.load("layers.0.o.side"), program.weights.load("layers.0.o")[:, [2, 5]]
    )


def test_minimums_join_the_small_product(make_program, in_blocks):
    program = in_blocks(make_program("untied"), lambda name: "Q4_1")
    split = split_minimums(program, ["layers.0.o", "layers.1.o"])
    separated = separate_outliers(split, {"layers.0.o": (1, 7), "layers.1.o": (7, 1)})
    graph = separated.graph
    assert not any(isinstance(node.op, BlockSums) for node in graph.nodes)
    assert len(graph.nodes) == len(split.graph.nodes) + 2  # per layer: a mask more, and a pick for the sums
    assert "layers.0.o.minimums" not in set(separated.weights)
    assert separated.weights.shape("layers.0.o.side") == (64, 2 + 64 // 32)
    # Layers with the same channels share what picks them.
    made = [v.name for v in graph.weights if v.name.startswith("outliers.")]
    assert made == ["outliers.0.mask", "outliers.0.pick"]


def test_siblings_share_mask_and_pick(make_program):
    program = make_program("plain")
    graph = separate_outliers(program, dict.fromkeys(("layers.0.q", "layers.0.k", "layers.0.v"), (3,))).graph
    before = program.graph.nodes
    assert sum(isinstance(node.op, ScaleColumns) for node in graph.nodes) == 1
    assert sum(isinstance(n.op, Add) for n in graph.nodes) == 3 + sum(isinstance(n.op, Add) for n in before)


@pytest.mark.parametrize("channels", [(64,), (-1,), (3, 3)])
def test_channels_that_are_not_there_are_refused(make_program, channels):
    with pytest.raises(TransformError, match=r"'layers\.0\.o' has the channels"):
        separate_outliers(make_program("plain"), {"layers.0.o": channels})


def test_a_weight_that_no_layer_has_is_refused(make_program):
    with pytest.raises(TransformError, match="no linear layer with the weight 'nothing'"):
        separate_outliers(make_program("plain"), {"nothing": (0,)})
