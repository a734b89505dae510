"""A trained draft in the file of its target: what its definition says, through every format and recipe."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import edgesdk
from edgesdk.backends.protocol import NO_CELLS
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.stack_record import DRAFT, NEXT_STATE, STATE
from edgesdk.cli.main import cli
from edgesdk.errors import BundleError, CheckpointError, UnsupportedOption
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.drafts.draft_checkpoint import DraftCheckpoint, write_draft
from edgesdk_converters.drafts.fit_draft import fit_draft
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.transforms.give_hidden import give_hidden

TINY = Path(__file__).parent.parent.parent / "data" / "tiny"
# Of the largest number; random weights are the worst case of eight bits.
TOLERANCES = {"f32": 1e-4, "f16": 5e-3, "w8-round": 0.08, "w4b32-round": 0.08}


def some_inputs(program, count):
    random = np.random.default_rng(count)
    tokens = random.integers(0, program.spec.vocab_size, count).astype(np.int32)
    return tokens, random.standard_normal((count, program.spec.hidden_size)).astype(np.float32)


def apart(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", ["llama", "llama-untied-bias", "gemma2", "granite"])
@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_the_graph_is_the_definition_whatever_was_done_to_the_target(
    make_draft, tiny_program, reference, name, recipe, layers
):
    (program, tokenizer), draft, recipe = tiny_program(name), make_draft(name, layers), find_recipe(recipe)
    prepared = prepare(give_hidden(program), recipe)
    stack = fit_draft(draft, program, tokenizer).written(
        prepared, QuantisedWeights(prepared.weights, recipe), ()
    )
    tokens, states = some_inputs(program, 9)
    # Its float weights: what is compared is what the transforms left, not what rounding took.
    found = evaluate(stack.program.graph, stack.program.weights, {"tokens": tokens, STATE: states})
    logits, after = reference(draft, program, tokens, states)
    assert apart(found["logits"], logits) < 1e-4
    assert apart(found[NEXT_STATE], after) < 1e-4


def converted(tmp_path, draft, name, target, recipes, **more):
    write_draft(tmp_path / "draft", draft)
    options = ConvertOptions((target,), recipes, 64, prove=False, draft=tmp_path / "draft", **more)
    return convert(str(TINY / name), tmp_path / "b", options)


@pytest.mark.parametrize(
    ("target", "recipes"),
    [
        ("litert", ("f32", "w8-round", "w4b32-round")),
        ("litert-static", ("w8-round",)),
        ("onnx-step", ("f32", "f16", "w8-round")),
    ],
)
def test_every_file_gives_the_definition(tmp_path, make_draft, tiny_program, reference, target, recipes):
    draft, (program, _) = make_draft("llama"), tiny_program("llama")
    bundle = converted(tmp_path, draft, "llama", target, recipes)
    manifest = open_bundle(bundle).manifest
    for variant in manifest.variants:
        record = next(stack.draft for stack in variant.stacks if stack.name == DRAFT)
        assert (record.hidden_size, record.vocabulary, record.depth) == (64, len(draft.vocabulary), 4)
        assert record.size_bytes > 0
        with edgesdk.load(bundle, variant=variant.name, strict=True, threads=1) as model:
            steps = model.backend.backend
            shapes = [shape for shape in steps.shapes if shape.stack == DRAFT]
            assert {shape.tokens for shape in shapes} >= {1, 8}
            for shape in (*shapes, *shapes[::-1]):
                tokens, states = some_inputs(program, shape.tokens)
                arrays = steps.buffers(shape)
                arrays.tokens[:] = tokens
                arrays.extra[STATE][:] = states
                steps.run(shape, NO_CELLS)
                logits, after = reference(draft, program, tokens, states)
                assert apart(arrays.logits, logits) < TOLERANCES[variant.recipe], (variant.name, shape)
                assert apart(arrays.extra[NEXT_STATE], after) < TOLERANCES[variant.recipe]
            # The model itself is as it was.
            assert model.generate([5, 6, 7], max_tokens=4, ignore_eos=True).new_tokens == 4


def test_its_own_parity_is_measured_and_shown(tmp_path, make_draft):
    write_draft(tmp_path / "draft", make_draft("llama"))
    options = ConvertOptions(
        ("litert", "onnx-step"), ("f32", "w8-round"), 64, draft=tmp_path / "draft", allow_parity_miss=True
    )
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    for variant in open_bundle(bundle).manifest.variants:
        (found,) = (stack.draft.top1_agreement for stack in variant.stacks if stack.draft is not None)
        # Random weights make near-ties.
        assert found == 1.0 if variant.recipe == "f32" else found > 0.5
    checks = verify_bundle(bundle).variants
    assert all(check.status == "passed" for check in checks if check.variant.endswith("f32")), checks
    shown = CliRunner().invoke(cli, ["inspect", str(bundle)])
    assert shown.exit_code == 0
    for text in ("outputs of litert-f32", "logits, hidden", "draft in litert-w8-round", "4 tokens ahead"):
        assert text in shown.output


def test_a_shallow_stack_beside_it_has_no_draft(tmp_path, make_draft):
    bundle = converted(tmp_path, make_draft("llama"), "llama", "litert", ("f32",), shallow="1")
    whole, shallow = open_bundle(bundle).manifest.variants
    assert [stack.name for stack in whole.stacks] == ["main", DRAFT]
    assert [stack.name for stack in shallow.stacks] == ["main"]
    with edgesdk.load(bundle, variant=shallow.name, strict=True, threads=1) as model:
        assert model.generate([5, 6, 7], max_tokens=4, ignore_eos=True).new_tokens == 4


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"architecture": "qwen3"}, "whose architecture is qwen3; the model's is llama"),
        ({"vocab_size": 100}, "whose vocabulary is 100"),
        ({"tokenizer": "0" * 64}, "whose tokenizer is another"),
    ],
)
def test_a_draft_for_another_model_is_refused(tmp_path, make_draft, change, found):
    draft = make_draft("llama")
    target = dataclasses.replace(draft.config.target, **change)
    vocabulary = draft.vocabulary[draft.vocabulary < target.vocab_size]
    other = dataclasses.replace(
        draft, config=dataclasses.replace(draft.config, target=target), vocabulary=vocabulary
    )
    with pytest.raises(CheckpointError, match=found) as error:
        converted(tmp_path, other, "llama", "litert", ("f32",))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_numbers_that_leave_float_when_they_are_joined_are_refused(tmp_path, make_draft, recipe):
    """Each is finite; the norm of the token times the matrix after it is not, and no file could be loaded."""
    draft = make_draft("llama", 1)
    large = {name: draft.tensors[name] * np.float32(1e30) for name in ("norm_e.weight", "layers.0.up.weight")}
    write_draft(tmp_path / "d", dataclasses.replace(draft, tensors={**draft.tensors, **large}))
    options = ConvertOptions(("litert",), (recipe,), context=64, prove=False, draft=tmp_path / "d")
    with pytest.raises(CheckpointError, match="times norm_e' that are not finite"):
        convert(str(TINY / "llama"), tmp_path / "b", options)
    assert not (tmp_path / "b").exists()


def test_a_draft_of_another_size_is_refused(tmp_path, make_draft):
    config = make_draft("llama").config
    small = dataclasses.replace(
        config, hidden_size=32, target=dataclasses.replace(config.target, hidden_size=32)
    )
    tensors = {name: np.ones(shape, np.float32) for name, shape in small.shapes.items()}
    draft = DraftCheckpoint(small, tensors, np.arange(9, dtype=np.int32))
    with pytest.raises(
        CheckpointError, match="trained for 'llama', whose hidden size is 32; the model's is 64"
    ):
        converted(tmp_path, draft, "llama", "litert", ("f32",))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"targets": ("onnx",)}, "a trained draft is for the targets litert, litert-static, onnx-step"),
        ({"targets": ("coreml", "onnx"), "recipes": ("f16",)}, "found onnx, coreml; leave one"),
        ({"reshaping": Reshaping(skip_layers="1")}, "trained for a whole model"),
    ],
)
def test_what_cannot_hold_a_draft_refuses_it(tmp_path, make_draft, options, found):
    write_draft(tmp_path / "draft", make_draft("llama"))
    options = {"targets": ("litert",), "recipes": ("f32",), **options}
    with pytest.raises(UnsupportedOption, match=found):
        convert(str(TINY / "llama"), tmp_path / "b", ConvertOptions(**options, draft=tmp_path / "draft"))
    assert not (tmp_path / "b").exists()


def test_a_target_that_cannot_hold_it_is_written_without(tmp_path, make_draft):
    write_draft(tmp_path / "draft", make_draft("llama"))
    said = []
    options = ConvertOptions(("litert", "onnx"), ("w8-round",), 64, prove=False, draft=tmp_path / "draft")
    bundle = convert(
        str(TINY / "llama"), tmp_path / "b", options, report=lambda progress: said.append(progress.what)
    )
    litert, onnx = open_bundle(bundle).manifest.variants
    assert [stack.name for stack in litert.stacks] == ["main", DRAFT]
    assert not onnx.stacks
    assert "note: onnx holds no draft and is written without" in said
    with edgesdk.load(bundle, variant=onnx.name, strict=True, threads=1) as model:
        assert model.generate([5, 6, 7], max_tokens=4, ignore_eos=True).new_tokens == 4


def test_a_folder_without_a_draft_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        convert("nobody/knows", tmp_path / "b", ConvertOptions(("litert",), draft=tmp_path))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: v["stacks"][1]["draft"].update(hidden_size=32), "first state nothing gives"),
        (lambda v: v["stacks"].pop(0), "first state nothing gives"),
        (lambda v: v["stacks"][1]["draft"].update(ids="tokenizer.json.x"), "without tokens or sizes"),
        (lambda v: v["stacks"][1]["draft"].update(vocabulary=0), "vocabulary of a draft is 0"),
        (lambda v: v["stacks"][1]["draft"].update(depth=1 << 30), "depth of a draft is .*, expected 1 to"),
        (lambda v: v["stacks"][1]["draft"].update(size_bytes=-5), "size_bytes of a draft is -5"),
        (lambda v: v["stacks"][1]["draft"].update(top1_agreement=float("nan")), "is nan, expected 0 to 1"),
        (lambda v: v["stacks"][1].update(inputs=[{"name": "x", "dims": ["T"]}]), "and something else"),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_refused(tmp_path, make_draft, change, found):
    bundle = converted(tmp_path, make_draft("llama"), "llama", "litert", ("f32",))
    path = next(path for path in bundle.glob("*.json") if "variants" in path.read_text())
    document = json.loads(path.read_text())
    change(document["variants"][0])
    path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=found):
        open_bundle(bundle)
