"""`--target coreml` from checkpoint to answer: converted, proven, verified, run when it is named."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import DeviceError, EmitError, UnsupportedOption
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Scheme, find_recipe
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.targets import find_targets

TINY = Path(__file__).parents[4] / "tests" / "data" / "tiny"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, short_text):
    options = ConvertOptions(
        targets=("litert", "coreml"), recipes=("w8",), context=64, calibration=short_text
    )
    return convert(str(TINY / "qwen3"), tmp_path_factory.mktemp("bundles") / "qwen3", options)


def test_it_is_proven_by_the_interpreter(bundle):
    variant = open_bundle(bundle).variant("coreml-w8")
    assert variant.format == "coreml"
    assert variant.parity is not None
    assert variant.parity.backend == "coreml-interpreter"
    assert variant.parity.positions > 200
    # No activation is quantised, so it comes closer to the reference than LiteRT does.
    assert variant.parity.kl_nats < open_bundle(bundle).variant("litert-w8").parity.kl_nats


def test_it_runs_when_it_is_named(bundle):
    with edgesdk.load(bundle, backend="coreml-interpreter", strict=True) as model:
        assert model.receipt.backend == "coreml-interpreter"
        assert model.receipt.provider == "interpreter"
        assert model.receipt.notes
        found = model.score(np.arange(3, 20, dtype=np.int32))
    with edgesdk.load(bundle, backend="litert", strict=True) as model:
        expected = model.score(np.arange(3, 20, dtype=np.int32))
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_it_is_never_chosen_unasked(bundle):
    with edgesdk.load(bundle) as model:
        assert model.receipt.backend != "coreml-interpreter"
    with pytest.raises(DeviceError, match="nothing can run"):
        edgesdk.load(bundle, variant="coreml-w8")


def test_a_bundle_without_the_weights_is_refused(bundle, tmp_path):
    import shutil

    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    next(copy.rglob("weight.bin")).unlink()
    with pytest.raises(edgesdk.EdgeError, match=r"weight\.bin"):
        edgesdk.load(copy, backend="coreml-interpreter")


@pytest.mark.parametrize(("context", "cells"), [(100, {100}), (512, {512}), (2048, {512, 2048})])
def test_sizes_are_few_and_reach_the_context(context, cells):
    (target,) = find_targets(["coreml"])
    steps = target.steps(context)
    assert {(step.tokens, step.cells) for step in steps} == {(t, s) for t in (1, 8, 128) for s in cells}
    assert steps[0].tokens == 1


@pytest.mark.parametrize("checkpoint", ["qwen3", "gemma3"])
def test_states_give_the_same_texts_as_cells(checkpoint, short_text, tmp_path):
    """Recorded as what it is, proven over its own states, and the same tokens come out."""
    options = ConvertOptions(
        targets=("coreml", "coreml-state"), recipes=("w8",), context=64, calibration=short_text
    )
    bundle = convert(str(TINY / checkpoint), tmp_path / "both", options)
    stateful = open_bundle(bundle).variant("coreml-state-w8")
    assert stateful.format == "coreml-state"
    assert stateful.parity is not None
    assert stateful.parity.backend == "coreml-state-interpreter"
    assert {step.cells for step in stateful.steps} == {64}
    prompts = [np.arange(3, 3 + count, dtype=np.int32) for count in (1, 7, 20)]
    texts = []
    for backend in ("coreml-interpreter", "coreml-state-interpreter"):
        with edgesdk.load(bundle, backend=backend, strict=True) as model:
            assert model.receipt.backend == backend
            texts.append([answer.tolist() for answer in greedy_tokens(model, prompts)])
    assert texts[0] == texts[1]
    report = verify_bundle(bundle)
    assert {check.backend: check.status for check in report.variants} == {
        "coreml-interpreter": "passed",
        "coreml-state-interpreter": "passed",
    }


def greedy_tokens(model, prompts, count=24):
    """The most likely tokens after each prompt."""
    for prompt in prompts:
        with contextlib.closing(model.new_sequence()) as sequence:
            found, token = [], prompt
            for _ in range(count):
                token = np.array([sequence.extend(token).argmax()], np.int32)
                found.append(token[0])
        yield np.array(found)


def test_states_are_refused_by_name(tmp_path):
    options = ConvertOptions(targets=("coreml-state",), recipes=("f16",), context=64)
    bundle = convert(str(TINY / "qwen3"), tmp_path / "states", options)
    with pytest.raises(DeviceError, match="runs coreml variants, and the bundle has none"):
        edgesdk.load(bundle, backend="coreml-interpreter")
    with pytest.raises(DeviceError, match="nothing can run"):
        edgesdk.load(bundle)
    with (
        edgesdk.load(bundle, backend="coreml-state-interpreter") as model,
        pytest.raises(UnsupportedOption, match="coreml-state-interpreter, which keeps its cache"),
    ):
        edgesdk.Engine(model)
    with pytest.raises(EmitError, match="states are float16, recipe f32"):
        convert(str(TINY / "qwen3"), tmp_path / "f32", dataclasses.replace(options, recipes=("f32",)))


@pytest.mark.parametrize(("context", "tokens"), [(64, [1, 8]), (100, [1, 8]), (128, [1, 8, 128])])
def test_a_stateful_step_fits_its_cells(context, tokens):
    (target,) = find_targets(["coreml-state"])
    steps = target.steps(context)
    assert [step.tokens for step in steps] == tokens
    assert {step.cells for step in steps} == {context}


@pytest.mark.parametrize("checkpoint", ["qwen3", "llama"])
def test_palettes_beat_int4_of_the_same_grouping(checkpoint, short_text, tmp_path):
    """On a checkpoint's own weights; what is converted runs."""
    # Random weights of 64 columns lose more in 4 bits than a model's do.
    options = ConvertOptions(
        targets=("coreml",),
        recipes=("p4", "p4-round"),
        context=64,
        allow_parity_miss=True,
        calibration=short_text,
    )
    bundle = convert(str(TINY / checkpoint), tmp_path / "palettes", options)
    for recipe in options.recipes:
        variant = open_bundle(bundle).variant(f"coreml-{recipe}")
        assert variant.parity is not None
        assert {r.algorithm for r in variant.weights if r.bits == 4} == {
            "palette_gptq" if recipe == "p4" else "palette"
        }
    source = open_checkpoint(str(TINY / checkpoint))
    spec = read_spec(source.config)
    recipe = find_recipe("p4-round")
    program = prepare(Program(spec, build_decoder(spec), weights_for(source, spec)), recipe)
    weights = QuantisedWeights(program.weights, recipe)
    names = [v.name for v in program.graph.weights if len(v.shape) == 2 and weights.scheme(v.name).palette]
    assert names
    for name in names:
        weight, found = program.weights.load(name), weights.palettised(name)
        grouped = weight.reshape(len(found.palettes), -1)
        int4 = round_to_nearest(grouped, Scheme(4, None, "clip_search")).dequantise().reshape(weight.shape)
        assert np.square(found.dequantise() - weight).sum() <= np.square(int4 - weight).sum(), name


def test_palettes_are_for_core_ml_only(tmp_path):
    options = ConvertOptions(targets=("litert", "coreml"), recipes=("p4",))
    with pytest.raises(UnsupportedOption, match="which only coreml, coreml-state take, found litert"):
        convert(str(TINY / "qwen3"), tmp_path / "no", options)
    assert list(tmp_path.iterdir()) == []
