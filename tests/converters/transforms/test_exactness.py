"""Transforms change the graph, not the logits."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.ops import Attend, Linear, RmsNorm
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.fold_attention_scale import fold_attention_scale
from edgesdk_converters.transforms.fold_norms import fold_norms
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.rotate_residual import can_rotate, rotate_residual
from edgesdk_converters.transforms.rotate_values import random_rotation


def assert_same_logits(before, after, tokens):
    expected = next(sequence_logits(before, [tokens]))
    found = next(sequence_logits(after, [tokens]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transform", [fold_norms, fold_attention_scale, fuse_linears])
def test_logits_stay(any_program, tokens, transform):
    changed = transform(any_program)
    assert_same_logits(any_program, changed, tokens)
    assert changed.history[-1].name == transform.__name__


def test_prepared_logits_stay(any_program, tokens):
    for recipe in ("f32", "w8-round"):
        assert_same_logits(any_program, prepare(any_program, find_recipe(recipe)), tokens)


def test_folded_norms_have_no_weight_left(make_program):
    graph = fold_norms(make_program("plain")).graph
    norms = [node for node in graph.nodes if isinstance(node.op, RmsNorm)]
    assert [len(node.inputs) for node in norms] == [1] * 4 + [2]  # the tied head keeps its norm


def test_an_untied_head_takes_the_last_norm_too(make_program):
    graph = fold_norms(make_program("untied")).graph
    assert all(len(n.inputs) == 1 for n in graph.nodes if isinstance(n.op, RmsNorm))


def test_folded_scales_are_one(any_program):
    graph = fold_attention_scale(any_program).graph
    assert {n.op.scale for n in graph.nodes if isinstance(n.op, Attend)} == {1.0}


def test_fusing_leaves_four_products_per_layer_and_the_head(make_program):
    graph = fuse_linears(make_program("biases")).graph
    assert sum(isinstance(n.op, Linear) for n in graph.nodes) == 2 * 4 + 1


def test_rotation_keeps_logits_and_mixes_every_channel(make_program, tokens):
    for name in ("plain", "untied", "biases", "qk_norm", "scaled"):
        before = fold_norms(make_program(name))
        after = rotate_residual(before, seed=3)
        assert_same_logits(before, after, tokens)
        table, turned = before.weights.load("embed"), after.weights.load("embed")
        assert np.abs(table - turned).mean() > 0.05


def test_a_rotation_is_orthogonal_and_repeatable():
    turn = random_rotation(64, 1)
    np.testing.assert_allclose(turn @ turn.T, np.eye(64), atol=1e-12)
    np.testing.assert_array_equal(turn, random_rotation(64, 1))
    assert np.abs(turn - random_rotation(64, 2)).max() > 0.1


def test_a_stream_with_norms_inside_cannot_rotate(make_program):
    program = fold_norms(make_program("gemma_like"))
    assert not can_rotate(program)
    with pytest.raises(TransformError, match="cannot rotate"):
        rotate_residual(program)


def test_a_folded_weight_is_gone(make_program):
    folded = fold_norms(make_program("plain"))
    with pytest.raises(TransformError, match="folded away"):
        folded.weights.load("layers.0.attn_norm")
