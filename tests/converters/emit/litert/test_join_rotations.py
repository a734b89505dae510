"""Queries and keys are rotated together where nothing lies between, and numbers stay what they were."""

import dataclasses

import numpy as np

from edgesdk_converters.emit.litert.join_rotations import join_rotations
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.ops import RmsNorm, Rotate
from edgesdk_converters.transforms.fuse_linears import fuse_linears


def rotations(graph):
    return sum(isinstance(node.op, Rotate) for node in graph.nodes)


def test_logits_are_the_same_to_the_bit(any_program, tokens):
    fused = fuse_linears(any_program)
    joined = dataclasses.replace(fused, graph=join_rotations(fused.graph))
    expected = next(sequence_logits(fused, [tokens]))
    np.testing.assert_array_equal(next(sequence_logits(joined, [tokens])), expected)


def test_every_layer_without_norms_between_is_joined(make_program):
    fused = fuse_linears(make_program("plain"))
    layers = len(fused.spec.layers)
    assert rotations(fused.graph) == 2 * layers
    assert rotations(join_rotations(fused.graph)) == layers


def test_what_is_not_fused_stays(make_program):
    program = make_program("plain")
    assert rotations(join_rotations(program.graph)) == rotations(program.graph)


def test_norms_between_keep_them_apart(make_program):
    fused = fuse_linears(make_program("qk_norm"))
    norms = sum(isinstance(node.op, RmsNorm) for node in fused.graph.nodes)
    joined = join_rotations(fused.graph)
    assert rotations(joined) == rotations(fused.graph)
    assert sum(isinstance(node.op, RmsNorm) for node in joined.nodes) == norms
