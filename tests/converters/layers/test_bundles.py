"""Shallow stacks of every architecture, written to every target and run by every runtime."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.manifest import SCHEMA_VERSION, Manifest, StepShape, Variant
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import BundleError, EmitError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.emit.further_stack import FurtherStack
from edgesdk_converters.emit.litert.emit_litert import emit_litert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.layers.repair_stack import repair_stack
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.quantise.weight_numbers import weight_numbers
from edgesdk_converters.targets import EmitRequest, find_targets
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip

TINY = Path(__file__).parents[2] / "data" / "tiny"
# Gemma 4's last layers read the cells of earlier ones, which cannot be skipped (test_skip_layers).
# lfm2 here has one block that attends, which has to stay.
MODELS = sorted(
    p.parent.name for p in TINY.glob("*/config.json") if not p.parent.name.startswith(("gemma4", "lfm2"))
)
BACKENDS = ("litert", "litert-interpreter", "onnxruntime", "onnxruntime-step")
CONTEXT = 64


def read(name):
    checkpoint = open_checkpoint(str(TINY / name))
    spec = read_spec(checkpoint.config)
    return checkpoint, Program(spec, build_decoder(spec), weights_for(checkpoint, spec))


def write(folder, checkpoint, program, recipe="f32", targets=("litert", "onnx", "onnx-step"), extra=None):
    """A bundle of a program; `extra` may add variants once the first ones are written."""
    prepared = prepare(program, find_recipe(recipe))
    weights = QuantisedWeights(prepared.weights, find_recipe(recipe))
    variants = []
    with BundleWriter(folder) as writer:
        for target in find_targets(targets):
            steps = target.steps(CONTEXT)
            entry = f"variants/{target.name}/{target.entry or f'{steps[0].signature}.onnx'}"
            into = writer.path(entry).parent
            target.emit(EmitRequest(checkpoint, prepared, weights, into, CONTEXT, steps))
            variants.append(
                Variant(
                    *(target.name, target.format, recipe, target.device_classes, entry, CONTEXT, steps),
                    numbers=weight_numbers(prepared, weights),
                )
            )
        if extra is not None:
            variants += extra(writer, prepared, weights)
        writer.path("tokenizer.json").write_text(checkpoint.tokenizer.tokenizer_json, encoding="utf-8")
        return writer.finish(
            Manifest(
                schema_version=SCHEMA_VERSION,
                name=checkpoint.name,
                licence=None,
                created_by="test",
                source=checkpoint.source,
                decoder=program.spec,
                tokenizer=checkpoint.tokenizer.record,
                generation=checkpoint.generation,
                variants=tuple(variants),
                files={},
            )
        )


def text_of(program, count=30):
    return np.random.default_rng(11).integers(3, program.spec.vocab_size, count).astype(np.int32)


def check(bundle, program, backend, **options):
    tokens = text_of(program)
    expected = next(sequence_logits(program, [tokens]))
    with edgesdk.load(bundle, backend=backend, strict=True, threads=1, **options) as model:
        found = model.score(tokens)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max(), backend


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_goes_to_every_target(name, tmp_path):
    """One half of each kind is gone, so layers and cells are numbered differently."""
    checkpoint, program = read(name)
    last = len(program.spec.layers) - 1
    shallow = skip_layers(program, parse_skip(f"0.attention,{last}.mlp"))
    bundle = write(tmp_path / "b", checkpoint, shallow)
    assert open_bundle(bundle).manifest.decoder == shallow.spec
    for backend in BACKENDS:
        check(bundle, shallow, backend)


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_alone_keeps_what_it_is(name, tmp_path):
    """Down to one layer, with its own window, rotation and cells."""
    checkpoint, program = read(name)
    L = len(program.spec.layers)
    for kept in sorted({0, L - 1}):
        others = ",".join(str(i) for i in range(L) if i != kept)
        shallow = skip_layers(program, parse_skip(others))
        assert shallow.spec.layers == (program.spec.layers[kept],)
        bundle = write(tmp_path / str(kept), checkpoint, shallow)
        for backend in BACKENDS:
            check(bundle, shallow, backend)


@pytest.mark.parametrize("recipe", ["w8-round", "w4b32-round"])
def test_a_repaired_stack_is_quantised_like_any_other(recipe, tmp_path):
    checkpoint, program = read("llama")
    shallow = skip_layers(program, parse_skip("1"))
    fixed = repair_stack(program, shallow, [text_of(program)]).program
    bundle = write(tmp_path / "b", checkpoint, fixed, recipe)
    tokens = text_of(fixed)
    expected = next(sequence_logits(fixed, [tokens]))
    for backend in ("litert", "onnxruntime"):
        with edgesdk.load(bundle, backend=backend, strict=True, threads=1) as model:
            found = model.score(tokens)
        close = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
        assert close > (0.99 if recipe == "w8-round" else 0.9), backend


def shared(writer, prepared, weights, request):
    """Both stacks in one LiteRT file."""
    shallow = skip_layers(prepared, request)
    steps = find_targets(("litert",))[0].steps(CONTEXT)
    fewer = tuple(dataclasses.replace(step, signature=f"shallow_{step.signature}") for step in steps)
    entry = "variants/both/model.tflite"
    emit_litert(prepared, weights, writer.path(entry), steps, CONTEXT, [FurtherStack(shallow, tuple(fewer))])
    common = {"format": "litert", "recipe": weights.recipe.name, "device_classes": ("cpu",), "entry": entry}
    return [
        Variant("whole", **common, context=CONTEXT, steps=steps, numbers=weight_numbers(prepared, weights)),
        Variant(
            "shallow",
            **common,
            context=CONTEXT,
            steps=fewer,
            decoder=shallow.spec,
            numbers=weight_numbers(shallow, weights),
        ),
    ]


@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_a_shallow_stack_shares_the_file_of_the_whole_one(recipe, tmp_path):
    checkpoint, program = read("llama")
    request = parse_skip("1.attention,0.mlp")

    def extra(writer, prepared, weights):
        return shared(writer, prepared, weights, request)

    bundle = write(tmp_path / "b", checkpoint, program, recipe, ("litert",), extra)
    alone = write(tmp_path / "s", checkpoint, skip_layers(program, request), recipe, ("litert",))
    files = open_bundle(bundle).manifest.files
    whole, both = files["variants/litert/model.tflite"], files["variants/both/model.tflite"]
    flatbuffer = 120_000  # of four more signatures; weights would be more
    assert both.size_bytes - whole.size_bytes < flatbuffer
    tokens = text_of(program)
    for name, other, variant in (("whole", bundle, "litert"), ("shallow", alone, None)):
        with edgesdk.load(bundle, backend="litert", variant=name, strict=True, threads=1) as model:
            found = model.score(tokens)
        with edgesdk.load(other, backend="litert", variant=variant, strict=True, threads=1) as model:
            np.testing.assert_array_equal(found, model.score(tokens))


def test_a_stack_with_other_numbers_cannot_share_a_file(tmp_path):
    _, program = read("llama")
    shallow = skip_layers(program, parse_skip("1"))
    fixed = repair_stack(program, shallow, [text_of(program)]).program
    weights = QuantisedWeights(program.weights, find_recipe("f32"))
    steps = (StepShape(1, 16, 1, "a"),)
    with pytest.raises(EmitError, match="weights of its own"):
        emit_litert(
            program, weights, tmp_path / "m", steps, 16, [FurtherStack(fixed, (StepShape(1, 16, 1, "b"),))]
        )


def test_a_variant_with_another_vocabulary_is_refused(tmp_path):
    checkpoint, program = read("llama")

    def extra(writer, prepared, weights):
        *_, shallow = shared(writer, prepared, weights, parse_skip("1"))
        return [
            dataclasses.replace(shallow, decoder=dataclasses.replace(program.spec, vocab_size=3)),
        ]

    with pytest.raises(BundleError, match="another vocabulary"):
        open_bundle(write(tmp_path / "b", checkpoint, program, targets=("litert",), extra=extra))
