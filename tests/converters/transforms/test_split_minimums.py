"""Minimums become a product of block sums; numbers stay."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.checkpoints.stored_blocks import block_type
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.ops import BlockSums, Linear
from edgesdk_converters.graph.weights import stored_blocks
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS, ONNX_BLOCKS, kept_blocks
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.split_minimums import split_minimums


def assert_same_logits(before, after, tokens):
    expected = next(sequence_logits(before, [tokens]))
    np.testing.assert_allclose(next(sequence_logits(after, [tokens])), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("kernels", [LITERT_BLOCKS, ONNX_BLOCKS], ids=["litert", "onnx"])
def test_logits_stay(any_program, in_blocks, tokens, kind, kernels):
    program = fuse_linears(in_blocks(any_program, lambda name: kind), keep_blocks=True)
    split = split_minimums(program, kept_blocks(program, kernels), positive_scales=kernels.positive_scales)
    assert_same_logits(program, split, tokens)
    assert split.history[-1].name == "split_minimums"
    minimums = [v.name for v in split.graph.weights if v.name.endswith(".minimums")]
    assert split.history[-1].settings["weights"] == len(minimums)


def test_integers_stay_and_scales_do(make_program, in_blocks):
    program = in_blocks(make_program("plain"), lambda name: "Q4_1")
    split = split_minimums(program, ["layers.0.down"])
    before = stored_blocks(program.weights, "layers.0.down")
    after = stored_blocks(split.weights, "layers.0.down")
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.scales, before.scales)
    np.testing.assert_array_equal(split.weights.load("layers.0.down.minimums"), before.minimums)
    assert not block_type(split.weights, "layers.0.down").minimums
    assert block_type(split.weights, "layers.0.up").minimums  # not asked for


def test_siblings_share_the_sums_of_their_input(make_program, in_blocks):
    program = in_blocks(make_program("plain"), lambda name: "Q4_1")
    graph = split_minimums(program, kept_blocks(program, ONNX_BLOCKS)).graph
    assert sum(isinstance(node.op, BlockSums) for node in graph.nodes) == 2 * 4  # q k v, o, gate up, down


def test_a_table_with_minimums_is_not_kept(make_program, in_blocks):
    program = in_blocks(make_program("plain"), lambda name: "Q4_1")
    assert "embed" not in kept_blocks(program, ONNX_BLOCKS)
    with pytest.raises(TransformError, match="Embed reads 'embed'"):
        split_minimums(program, ["embed"])
    untied = in_blocks(make_program("untied"), lambda name: "Q4_1")
    assert "head" in kept_blocks(untied, ONNX_BLOCKS)


def test_what_lies_in_no_blocks_is_refused(make_program, in_blocks):
    program = in_blocks(make_program("plain"), lambda name: None)
    assert kept_blocks(program, ONNX_BLOCKS) == ()
    with pytest.raises(TransformError, match=r"'layers\.0\.q' does not lie in blocks"):
        split_minimums(program, ["layers.0.q"])
    with pytest.raises(TransformError, match="does not lie in blocks"):
        stored_blocks(program.weights, "layers.0.q")


def test_kinds_decide_what_is_fused(make_program, in_blocks, tokens):
    mixed = in_blocks(make_program("biases"), lambda name: "Q8_0" if name.endswith(".v") else "Q4_1")
    fused = fuse_linears(mixed, keep_blocks=True)
    names = {node.inputs[1] for node in fused.graph.nodes if isinstance(node.op, Linear)}
    assert {"layers.0.q_k", "layers.0.v", "layers.0.gate_up"} <= names
    assert block_type(fused.weights, "layers.0.q_k").name == "Q4_1"
    assert fused.weights.stored_type("layers.0.q_k") == "Q4_1"
    whole = fuse_linears(mixed)
    assert block_type(whole.weights, "layers.0.q_k_v") is None
    assert whole.weights.stored_type("layers.0.q_k_v") == "Q4_1+Q8_0"
    assert_same_logits(mixed, fused, tokens)
