"""What becomes of each matrix is said, with the error."""

import dataclasses

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS, ONNX_BLOCKS, kept_blocks, resolve_blocks
from edgesdk_converters.quantise.peak_activations import peak_activations
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.quantise.weight_records import weight_records
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.keep_blocks import keep_blocks
from edgesdk_converters.transforms.split_minimums import split_minimums


def records(program, kernels):
    program = fuse_linears(program, keep_blocks=True)
    kept = kept_blocks(program, kernels)
    program = split_minimums(program, kept, positive_scales=kernels.positive_scales)
    weights = QuantisedWeights(program.weights, resolve_blocks(find_recipe("source"), program, kept))
    return program, {record.name: record for record in weight_records(program, weights)}


def kinds(name):
    return {"embed": "Q8_0", "layers.0.down": None, "layers.1.down": "Q8_0"}.get(name, "Q4_1")


def test_a_target_with_all_kernels_keeps_all_blocks(make_program, in_blocks):
    _, found = records(in_blocks(make_program("plain"), kinds), ONNX_BLOCKS)
    assert {n for n, r in found.items() if r.kept == "exact"} == {
        *("embed", "layers.1.down"),
        *(f"layers.{i}.{part}" for i in (0, 1) for part in ("q_k_v", "o", "gate_up")),
    }
    assert found["layers.0.q_k_v"].stored_type == "Q4_1"
    assert (found["layers.0.q_k_v"].bits, found["layers.0.q_k_v"].block) == (4, 32)
    assert (found["embed"].bits, found["embed"].block) == (8, 32)
    assert found["embed"].relative_error == 0
    assert found["layers.0.down"].kept == "quantised"
    assert found["layers.0.down"].stored_type == "F32"
    minimums = found["layers.0.o.minimums"]
    assert (minimums.kept, minimums.stored_type) == ("float", "Q4_1")
    assert minimums.relative_error < 2**-11


def test_what_a_target_cannot_hold_is_requantised_and_says_so(make_program, in_blocks):
    program, found = records(in_blocks(make_program("plain"), kinds), LITERT_BLOCKS)
    record = found["layers.1.down"]
    assert (record.kept, record.stored_type, record.bits, record.block) == ("requantised", "Q8_0", 8, None)
    weight = program.weights.load("layers.1.down")
    weights = QuantisedWeights(program.weights, find_recipe("source"))
    lost = np.linalg.norm(weights.load("layers.1.down") - weight) / np.linalg.norm(weight)
    assert record.relative_error == pytest.approx(lost, rel=1e-4)
    assert found["embed"].kept == "requantised"
    assert found["layers.0.o"].kept == "exact"


def test_blocks_with_minimums_are_not_taken_for_symmetric_ones(make_program, in_blocks):
    program = in_blocks(make_program("plain"), lambda name: "Q4_1")
    recipe = resolve_blocks(find_recipe("source"), program, ["layers.0.o"])
    with pytest.raises(TransformError, match=r"'layers\.0\.o' have minimums; split those off first"):
        QuantisedWeights(program.weights, recipe).quantised("layers.0.o")


def test_a_recipe_of_ones_own_can_keep_blocks(make_program, in_blocks):
    program = in_blocks(make_program("plain"), lambda name: "Q4_0" if name.endswith(".o") else None)
    own = dataclasses.replace(find_recipe("w4b32-round"), name="mine", keep_blocks=True)
    resolved = resolve_blocks(own, program, kept_blocks(program, ONNX_BLOCKS))
    assert resolved.scheme("layers.0.o").algorithm == "stored"
    assert resolved.scheme("layers.0.up") == own.scheme("layers.0.up")


def test_what_no_file_has_is_left_out(make_program, in_blocks, tokens):
    program = in_blocks(make_program("plain"), kinds)
    peaks = peak_activations(program, [tokens])
    program, recipe = keep_blocks(program, find_recipe("source"), LITERT_BLOCKS, peaks)
    names = [record.name for record in weight_records(program, QuantisedWeights(program.weights, recipe))]
    assert "outliers.0.pick" in set(program.weights)
    assert not [name for name in names if name.startswith("outliers")]
    assert "layers.0.q_k_v.side" in names
