"""Palettes: never further off than integers for the same rows, chosen for what layers compute."""

import dataclasses

import numpy as np
import pytest

from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk_converters.check_targets import check_palettes
from edgesdk_converters.quantise.calibrate import calibrate
from edgesdk_converters.quantise.palette_tensor import PaletteTensor
from edgesdk_converters.quantise.palettise import palettise, palettise_for
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme, find_recipe
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise_program import quantise_program
from edgesdk_converters.targets import TARGETS, find_targets

PALETTE = Scheme(4, None, "palette", 16)


def squared(a, b):
    return float(((a - b) ** 2).sum())


def int4_by_group(weight, rows):
    """Symmetric int4 with one searched scale for every `rows` rows: the same grouping."""
    groups = weight.reshape(len(weight) // rows, -1)
    return round_to_nearest(groups, Scheme(4, None, "clip_search")).dequantise().reshape(weight.shape)


@pytest.mark.parametrize("draw", ["standard_normal", "uniform", "standard_t"])
@pytest.mark.parametrize("rows", [8, 16, 32])
def test_error_is_no_worse_than_that_of_int4_for_the_same_rows(draw, rows):
    random = np.random.default_rng(rows)
    size = (64, 96)
    weight = random.standard_t(3, size) if draw == "standard_t" else getattr(random, draw)(size=size)
    weight = weight.astype(np.float32)
    found = palettise(weight, dataclasses.replace(PALETTE, rows=rows))
    assert found.palettes.shape == (64 // rows, 16)
    assert squared(found.dequantise(), weight) < squared(int4_by_group(weight, rows), weight)


def test_every_number_gets_its_nearest():
    weight = np.random.default_rng(1).standard_normal((32, 40)).astype(np.float32)
    found = palettise(weight, PALETTE)
    for group in range(2):
        rows = slice(16 * group, 16 * group + 16)
        distances = np.abs(weight[rows, :, None] - found.palettes[group])
        np.testing.assert_allclose(
            np.abs(found.dequantise()[rows] - weight[rows]), distances.min(axis=-1), atol=1e-6
        )
    np.testing.assert_array_equal(found.palettes, found.palettes.astype(np.float16))
    assert (np.diff(found.palettes) >= 0).all()


def test_sixteen_numbers_are_kept_exactly():
    numbers = np.array([-3, -2.5, -2, -1.25, -1, -0.5, -0.25, 0, 0.125, 0.5, 0.75, 1, 1.5, 2, 3, 6])
    weight = np.random.default_rng(0).choice(numbers, (16, 400)).astype(np.float32)
    np.testing.assert_array_equal(palettise(weight, PALETTE).dequantise(), weight)


def test_the_same_comes_out_again_and_in_any_layout():
    weight = np.random.default_rng(2).standard_normal((48, 33)).astype(np.float32)
    one, other = palettise(weight, PALETTE), palettise(np.asfortranarray(weight), PALETTE)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.palettes, other.palettes)


@pytest.mark.parametrize(("rows", "palettes"), [(48, 3), (24, 3), (17, 17)])
def test_rows_that_sixteen_does_not_divide_share_with_fewer(rows, palettes):
    weight = np.random.default_rng(3).standard_normal((rows, 20)).astype(np.float32)
    assert palettise(weight, PALETTE).palettes.shape == (palettes, 16)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_one_number_everywhere(value):
    weight = np.full((16, 12), value, np.float32)
    np.testing.assert_array_equal(palettise(weight, PALETTE).dequantise(), weight)


def test_columns_that_count_more_are_closer():
    weight = np.random.default_rng(4).standard_normal((16, 200)).astype(np.float32)
    weight[:, :20] *= 0.2
    importance = np.where(np.arange(200) < 20, np.float32(1000), np.float32(1))
    plain, weighted = (palettise(weight, PALETTE, i).dequantise() for i in (None, importance))
    assert squared(weighted[:, :20], weight[:, :20]) < 0.5 * squared(plain[:, :20], weight[:, :20])
    assert squared(weighted, weight) > squared(plain, weight)


@pytest.mark.parametrize("seed", range(3))
def test_outputs_are_closer_than_without_the_inputs(seed):
    random = np.random.default_rng(seed)
    mix = random.standard_normal((128, 20)) @ random.standard_normal((20, 128)) * 0.4 + np.eye(128)
    inputs = (random.standard_normal((400, 128)) @ mix).astype(np.float32)
    weight = random.standard_normal((48, 128)).astype(np.float32) * 0.1
    found = palettise_for(weight, inputs.T @ inputs, PALETTE)
    plain = palettise(weight, PALETTE).dequantise()
    assert squared(inputs @ found.tensor.dequantise().T, inputs @ weight.T) < 0.5 * squared(
        inputs @ plain.T, inputs @ weight.T
    )
    assert found.loss < found.rounding_loss


def test_no_matrix_ends_above_plain_palettes():
    for seed in range(4):
        random = np.random.default_rng(seed)
        weight = random.standard_t(2, (9, 64)).astype(np.float32)
        inputs = random.standard_t(1.5, (30, 64))
        found = palettise_for(weight, inputs.T @ inputs, PALETTE)
        assert found.loss <= found.rounding_loss * (1 + 1e-6)
    with pytest.raises(TransformError, match="finite Gram matrix of 64 x 64"):
        palettise_for(weight, np.eye(3), PALETTE)


def test_bytes_and_parts():
    weight = np.random.default_rng(5).standard_normal((64, 30)).astype(np.float32)
    found = palettise(weight, PALETTE)
    assert found.nbytes == 64 * 30 // 2 + 4 * 16 * 2
    np.testing.assert_array_equal(found.rows(16, 999).dequantise(), found.dequantise()[16:])
    with pytest.raises(ValueError, match="cut a palette of 16 rows"):
        found.rows(8, 24)


def test_weights_under_the_recipe(make_program, tokens):
    """Indices for all matrices but embedding and head; calibrated where the recipe says so."""
    program = make_program("untied")
    recipe = find_recipe("p4-round")
    weights = QuantisedWeights(program.weights, recipe)
    assert isinstance(weights.stored("layers.0.q"), PaletteTensor)
    assert weights.quantised("embed").bits == 8
    np.testing.assert_array_equal(weights.load("layers.0.q"), weights.palettised("layers.0.q").dequantise())
    with pytest.raises(TransformError, match=r"a palette for 'layers\.0\.q', which only Core ML takes"):
        weights.quantised("layers.0.q")
    with pytest.raises(TransformError, match="integers for 'head', not a palette"):
        weights.palettised("head")
    with pytest.raises(TransformError, match="calibrate first, or use algorithm palette"):
        QuantisedWeights(program.weights, find_recipe("p4")).stored("layers.0.q")
    found = calibrate(program, find_recipe("p4"), [tokens])
    assert {record.algorithm for record in found.records} == {"palette_gptq"}
    assert all(record.error <= record.rounded_error for record in found.records)
    everything = Recipe("own", (Rule("*", Scheme(4, None, "palette_gptq", 16)),))
    early = {record.weight: record.algorithm for record in calibrate(program, everything, [tokens]).records}
    assert early["embed"] == "palette"


def test_it_is_refused_where_it_cannot_be_stored(make_program, tokens):
    recipes = [find_recipe("w8"), find_recipe("p4")]
    check_palettes(find_targets(["coreml", "coreml-state"]), recipes)
    check_palettes(TARGETS, recipes[:1])
    with pytest.raises(UnsupportedOption, match=r"recipe p4 stores palettes.*found litert, onnx-step"):
        check_palettes(find_targets(["coreml", "litert", "onnx-step"]), recipes)
    (coreml,) = find_targets(["coreml"])
    from edgesdk_converters.quantise.budget import parse_budget

    with pytest.raises(TransformError, match="no calibrated int4"):
        quantise_program(
            make_program("plain"), recipes[1], coreml.blocks, [tokens], parse_budget("perplexity=1.05")
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": None}, "expected 4, null, and 8, 16 or 32"),
        ({"rows": 5}, "expected 4, null, and 8, 16 or 32"),
        ({"bits": 8}, "a palette has 8 bits"),
        ({"block": 32}, "block 32"),
        ({"algorithm": "round"}, "for palettes only"),
    ],
)
def test_schemes_that_contradict_themselves(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PALETTE, **change)
