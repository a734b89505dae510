"""A shallow stack converted beside the whole one: the same weights, the same numbers as one of its own."""

from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.reshape import Reshaping

TINY = Path(__file__).parent.parent / "data" / "tiny"
REQUEST = "1.attention,0.mlp"


def options(recipes=("f32", "w8-round"), targets=("litert",), **more):
    return ConvertOptions(targets, recipes, context=64, allow_parity_miss=True, **more)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A bundle with a shallow stack beside the whole one, and one of the shallow stack alone."""
    folder = tmp_path_factory.mktemp("shallow")
    shared = convert(str(TINY / "llama"), folder / "shared", options(shallow=REQUEST))
    skipped = options(reshaping=Reshaping(skip_layers=REQUEST))
    return shared, convert(str(TINY / "llama"), folder / "alone", skipped)


def score(bundle, variant):
    tokens = np.arange(3, 40, dtype=np.int32)
    with edgesdk.load(bundle, variant=variant, strict=True, threads=1) as model:
        return model.score(tokens), list(model.generate("ab", max_tokens=8, temperature=0.0).tokens)


@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_it_gives_the_bits_of_a_stack_converted_alone(both, recipe):
    shared, alone = both
    mine, text = score(shared, f"litert-{recipe}-shallow")
    other, expected = score(alone, f"litert-{recipe}")
    np.testing.assert_array_equal(mine, other)
    assert text == expected
    whole, _ = score(shared, f"litert-{recipe}")
    assert np.abs(whole - mine).max() > 1e-3


def test_the_manifest_says_what_it_is(both):
    shared, alone = both
    manifest = open_bundle(shared).manifest
    variants = {variant.name: variant for variant in manifest.variants}
    assert list(variants) == [
        "litert-f32",
        "litert-f32-shallow",
        "litert-w8-round",
        "litert-w8-round-shallow",
    ]
    whole, shallow = variants["litert-w8-round"], variants["litert-w8-round-shallow"]
    assert shallow.entry == whole.entry
    assert shallow.decoder == open_bundle(alone).manifest.decoder
    assert {step.signature for step in shallow.steps} == {f"shallow_step_{t}" for t in (1, "few", "many")}
    assert {record.name for record in shallow.weights} < {record.name for record in whole.weights}
    assert whole.parity.against == "the source"
    assert shallow.parity.against == "the source, without 0.mlp,1.attention"


def test_the_manifest_says_which_of_its_own_products_are_exact(tmp_path):
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options(("w8-round-exact",), shallow=REQUEST))
    whole, shallow = open_bundle(bundle).manifest.variants
    counts = [variant.transforms[-1] for variant in (whole, shallow)]
    assert [record.name for record in counts] == ["exact_activations"] * 2
    # Without one attention (q_k_v, o) and one feed-forward (gate_up, down).
    assert [counts[0].settings[key] - counts[1].settings[key] for key in ("decode", "of")] == [4, 4]


def test_it_is_proven_and_verified_against_its_own_stack(both):
    shared, alone = both
    report = verify_bundle(shared)
    assert report.passed, report
    shallow = {check.variant: check for check in report.variants}["litert-f32-shallow"]
    assert shallow.recorded.top1_agreement > 0.999
    assert shallow.measured.perplexity_ratio == pytest.approx(1, abs=1e-3)
    expected = open_bundle(alone).manifest.variants[0].parity.perplexity
    assert shallow.recorded.perplexity == pytest.approx(expected, rel=1e-6)


def test_the_whole_stack_is_loaded_unless_the_other_is_named(both):
    with edgesdk.load(both[0], recipe="w8-round") as model:
        assert model.receipt.variant == "litert-w8-round"


@pytest.mark.parametrize(
    "more",
    [
        {"reshaping": Reshaping(skip_layers="0.attention")},
        {"cells": "int8"},
    ],
)
def test_it_composes(more, tmp_path):
    bundle = convert(str(TINY / "gemma3"), tmp_path / "b", options(("w8-round",), shallow="1", **more))
    report = verify_bundle(bundle)
    assert [check.variant.endswith("-shallow") for check in report.variants] == [False, True]
    assert report.passed or all(check.status != "not checked" for check in report.variants)


@pytest.mark.parametrize(
    ("more", "error", "match"),
    [
        ({"targets": ("litert", "onnx")}, UnsupportedOption, "target litert only, found onnx"),
        ({"shallow": "x"}, UnsupportedOption, "skip-layers has 'x'"),
        ({"shallow": "7"}, TransformError, "cannot be skipped"),
        ({"shallow": "0-1"}, TransformError, "leaves no attention"),
    ],
)
def test_what_cannot_be_is_refused(more, error, match, tmp_path):
    with pytest.raises(error, match=match):
        convert(str(TINY / "llama"), tmp_path / "b", options(**{"shallow": "1", **more}))
    assert not (tmp_path / "b").exists()


def test_it_adds_a_description_and_no_weights(both, tmp_path):
    whole = convert(str(TINY / "llama"), tmp_path / "b", options(("f32",)))
    name = "variants/litert-f32/model.tflite"
    before, after = (open_bundle(bundle).manifest.files[name].size_bytes for bundle in (whole, both[0]))
    embedding = open_bundle(whole).manifest.decoder
    weights = 4 * embedding.vocab_size * embedding.hidden_size
    assert 0 < after - before < min(weights, 120_000)
