"""Ranges are those of the evaluator, and know when 16 bits are not enough."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.quantise.activation_ranges import LEVELS, ActivationRange, measure_ranges


def test_every_linear_layer_has_both(make_program, tokens):
    program = make_program("biases")
    ranges = measure_ranges(program, [tokens, tokens[:3]])
    for node in program.graph.nodes:
        if isinstance(node.op, Linear):
            assert node.inputs[0] in ranges
            assert node.outputs[0] in ranges
    logits = next(sequence_logits(program, [tokens]))
    found = ranges["logits"]
    assert found.low == pytest.approx(min(float(logits.min()), 0), rel=1e-4)
    assert found.high == pytest.approx(float(logits.max()), rel=1e-4)


def test_outputs_are_before_the_bias(make_program, tokens):
    program = make_program("biases")
    node = next(n for n in program.graph.nodes if isinstance(n.op, Linear) and len(n.inputs) == 3)
    before = measure_ranges(program, [tokens])[node.outputs[0]]

    class Shifted:
        def __iter__(self):
            return iter(program.weights)

        def shape(self, name):
            return program.weights.shape(name)

        def load(self, name):
            values = program.weights.load(name)
            return values + 100 if name == node.inputs[2] else values

    shifted = type(program)(program.spec, program.graph, Shifted())
    after = measure_ranges(shifted, [tokens])[node.outputs[0]]
    assert after.high == pytest.approx(before.high, abs=1e-3)
    assert after.low == pytest.approx(before.low, abs=1e-3)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 5.0), (-2.0, 0.0), (0.0, 0.0)])
def test_zero_and_both_ends_have_a_level(low, high):
    found = ActivationRange(low, high, 1.0)
    assert 0 <= found.zero_point < LEVELS
    for value in (low, high):
        level = round(value / found.scale) + found.zero_point
        assert 0 <= level < LEVELS
        assert (level - found.zero_point) * found.scale == pytest.approx(value, abs=found.scale)


def test_one_huge_token_spoils_16_bits():
    assert ActivationRange(-10.0, 10.0, 1.0).fits
    assert not ActivationRange(-10.0, 30000.0, 1.0).fits


def test_no_tokens(make_program):
    with pytest.raises(TransformError, match="needs tokens, got none"):
        measure_ranges(make_program("plain"), [np.zeros(0, np.int32)])
