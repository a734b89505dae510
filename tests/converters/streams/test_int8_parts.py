"""The low-rank parts of streams in int8: what files say, how many bytes they take, and that 0 stays 0."""

import dataclasses

import numpy as np
import pytest

import edgesdk
from edgesdk.backends.litert.graph_operations import read_signature
from edgesdk.bundle.reader import open_bundle
from edgesdk.kv.step_model import steps_of
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.low_rank_term import STREAM_INNER, STREAM_WRITTEN
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme, find_recipe
from edgesdk_converters.quantise_program import quantise_program
from edgesdk_converters.streams.add_streams import add_streams
from edgesdk_converters.streams.stream_checkpoint import write_streams
from tests.converters.streams.test_add_streams import COUNT, DATA, make_streams, tree_of, with_streams

INT8 = Scheme(8, None, "round")
SIDES = ("layers.0.q.stream_a", "layers.0.q.stream_b")
FILES = ("litert-w8-round", "litert-static-w8-round", "onnx-step-w8-round", "litert-w8-round-exact")
BACKENDS = {"litert": "litert", "onnx": "onnxruntime-step"}
PARTS = {"q alone": ("q", "o", "down"), "v alone": ("v",), "k in between": ("q", "v", "up")}


def only(streams, parts):
    """Streams with parts of some products alone."""
    kept = {
        name: value
        for name, value in streams.tensors.items()
        if name == "start" or name.split(".")[2] in parts
    }
    return dataclasses.replace(streams, config=dataclasses.replace(streams.config, parts=parts), tensors=kept)


@pytest.fixture(scope="module", params=PARTS)
def streamed(request, tmp_path_factory):
    """Streams, and a bundle with them in every target and int8 recipe."""
    folder = tmp_path_factory.mktemp("int8-parts")
    _, program, streams = make_streams("llama", "masks")
    streams = only(streams, PARTS[request.param])
    write_streams(folder / "streams", streams)
    for targets, recipes in (
        (("litert", "litert-static", "onnx-step"), ("w8-round",)),
        (("litert",), ("w8-round-exact", "f32")),
    ):
        options = ConvertOptions(
            targets=targets, recipes=recipes, context=128, prove=False, streams=folder / "streams"
        )
        convert(str(DATA / "llama"), folder / recipes[0], options)
    return program, streams, folder


@pytest.fixture(scope="module")
def plain(converted_once):
    """The same files without streams, by the first of the recipes in each."""
    options = {"context": 128, "prove": False}
    targets = ("litert", "litert-static", "onnx-step")
    return {
        "w8-round": converted_once(DATA / "llama", targets=targets, recipes=("w8-round",), **options),
        "w8-round-exact": converted_once(
            DATA / "llama", targets=("litert",), recipes=("w8-round-exact", "f32"), **options
        ),
    }


@pytest.mark.parametrize("name", ["w8", "w8-round", "w8-exact", "w4b32", "w4b64-round", "w4c"])
def test_recipes_of_integers_store_them_in_int8(name):
    assert [find_recipe(name).scheme(weight) for weight in SIDES] == [INT8, INT8]
    assert find_recipe(name).scheme("streams.start") is None
    assert find_recipe(name).scheme("layers.0.q.lora_a") is None


def test_other_recipes_leave_them_floats_unless_a_rule_names_them():
    for name in ("f32", "f16", "source", "p4"):
        assert [find_recipe(name).scheme(weight) for weight in SIDES] == [None, None]
    every = Recipe("own", (Rule("*", INT8),))
    assert [every.scheme(weight) for weight in SIDES] == [None, None]
    named = Recipe("own", (Rule("*.stream_b", INT8), Rule("*", None)))
    assert [named.scheme(weight) for weight in SIDES] == [None, INT8]


@pytest.mark.parametrize("recipe", ["w8", "w8-exact", "w4b32"])
def test_integers_of_the_model_are_those_without_streams(recipe):
    """Calibrated: neither scales of channels nor what GPTQ chooses knows of the parts."""
    _, program, streams = make_streams("llama", "masks")
    random = np.random.default_rng(1)
    texts = [random.integers(3, 60, 64).astype(np.int32) for _ in range(3)]
    found = [
        quantise_program(prepare(each, find_recipe(recipe)), find_recipe(recipe), LITERT_BLOCKS, texts)
        for each in (program, add_streams(program, streams))
    ]
    without, beside = (each.weights for each in found)
    names = [value.name for value in found[0].program.graph.weights]
    assert len(names) > 8
    for name in names:
        assert beside.digest(name) == without.digest(name), name
    counts = [
        record.settings for each in found for record in each.history if record.name == "exact_activations"
    ]
    assert len(counts) == (2 if recipe.endswith("exact") else 0)
    assert counts[:1] == counts[1:]


TOKENS = np.random.default_rng(6).integers(3, 60, 11).astype(np.int32)
TREE = [(7, -1, 0), (9, 0, 0), (0, -1, 1), (0, 2, 2), (0, 0, 1), (0, 4, 2), (0, 1, 1), (0, 6, 2)]
"""After the last token 7, then 9; streams of the root, of 7 and of 9."""


def run_tree(path, variant, tree):
    """Logits of a prompt and of one token, those of a tree, and the cells of all with both drafts kept."""
    backend = BACKENDS[variant.partition("-")[0]]
    with edgesdk.load(path, backend=backend, variant=variant, strict=True, threads=1) as model:
        runner = StepRunner(steps_of(model.backend), model.decoder, 128)
        cells = runner.new_list()
        said = [
            runner.run([StepEntry(cells, piece, "last")])[0].copy() for piece in (TOKENS[:-2], TOKENS[-2:-1])
        ]
        (rows,) = runner.run([StepEntry(cells, TOKENS[-1:], "last", tree)])
        rows = rows.copy()
        runner.keep(cells, [0, 1])
        at = cells.cells_at(0, cells.length)
        return said, rows, [array[..., at, :].copy() for array in runner.pool.cells.arrays]


@pytest.mark.parametrize("variant", FILES)
def test_rows_of_tokens_are_those_of_a_file_without_streams(streamed, plain, variant):
    """A row whose gate is 0 is 0 on its grid of integers, and what is added to it is 0."""
    _, _, folder = streamed
    recipe = "w8-round-exact" if variant.endswith("exact") else "w8-round"
    said, rows, cells = run_tree(folder / recipe, variant, tree_of(TREE))
    tokens = DraftTree(*(np.array(values, np.int32) for values in ((7, 9), (-1, 0))))
    expected, plain_rows, plain_cells = run_tree(plain[recipe], variant, tokens)
    for mine, other in zip(said, expected, strict=True):
        assert np.array_equal(mine, other)
    np.testing.assert_allclose(rows[:3], plain_rows, atol=1e-5)
    for mine, other in zip(cells, plain_cells, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


@pytest.mark.parametrize("variant", ["onnx-step-w8-round", "litert-w8-round-exact", "litert-static-w8-round"])
def test_rows_of_streams_say_what_the_integers_say(streamed, variant):
    """ONNX steps multiply in float32; XNNPACK rounds what the parts read to 8 bits."""
    program, streams, folder = streamed
    recipe = find_recipe("w8-round")
    prepared = prepare(add_streams(program, streams), recipe)
    weights = QuantisedWeights(prepared.weights, recipe)
    logits = evaluate(prepared.graph, weights, with_streams(prepared, TOKENS, [len(TOKENS) - 1]))["logits"]
    expected = logits[len(TOKENS) :]
    bundle = folder / ("w8-round-exact" if variant.endswith("exact") else "w8-round")
    _, rows, _ = run_tree(bundle, variant, tree_of(TREE))
    found = rows[3 : 3 + COUNT]
    if variant.startswith("onnx"):
        np.testing.assert_allclose(found, expected, atol=5e-4)
    else:
        assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()


@pytest.mark.parametrize("variant", FILES)
def test_a_manifest_has_their_bytes(streamed, variant):
    _, streams, folder = streamed
    recipe = "w8-round-exact" if variant.endswith("exact") else "w8-round"
    manifest = open_bundle(folder / recipe).manifest
    (found,) = (each for each in manifest.variants if each.name == variant)
    parts = {name: value for name, value in streams.tensors.items() if name != "start"}
    scales = 4 * sum(len(value) for value in parts.values())
    begin = 4 * (streams.tensors["start"].size + COUNT)
    assert found.stacks[0].streams.size_bytes == sum(v.size for v in parts.values()) + scales + begin
    stored = [record for record in found.weights if record.name.endswith((STREAM_INNER, STREAM_WRITTEN))]
    assert {(record.bits, record.algorithm) for record in stored} == {(8, "round")}


def test_a_step_of_one_token_has_nothing_of_streams(streamed, plain):
    """No stream stands without its token, so such a step runs what it would without them."""
    _, _, folder = streamed
    for recipe in ("w8-round-exact", "f32"):
        file = f"variants/litert-{recipe}/model.tflite"
        paths = [root / file for root in (folder / "w8-round-exact", plain["w8-round-exact"])]
        one, without = (read_signature(path, "step_1").operations for path in paths)
        assert [(each.kind, each.weight_bytes) for each in one] == [
            (each.kind, each.weight_bytes) for each in without
        ]
        few, fewer = (len(read_signature(path, "step_few").operations) for path in paths)
        assert few > fewer
