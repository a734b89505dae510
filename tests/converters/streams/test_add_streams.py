"""Streams in a model's graph and files: as they were trained, and nothing of a token's row changes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.stack_record import SOURCES, STREAMS
from edgesdk.bundle.step_names import CellName
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.lookup import Lookup
from edgesdk.drafts.stream_drafts import StreamDrafts
from edgesdk.engine.engine import Engine
from edgesdk.errors import CheckpointError, TransformError, UnsupportedOption
from edgesdk.kv.step_model import steps_of
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk.model import Model
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.drafts.draft_checkpoint import DraftTarget, tokenizer_digest
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import MASKED, sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.streams.add_streams import add_streams
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint, read_streams, write_streams
from edgesdk_converters.streams.stream_config import StreamConfig, tensor_shapes

DATA = Path(__file__).parents[2] / "data" / "tiny"
FORMS = ("masks", "streams")
COUNT = 2


def read(name):
    checkpoint = open_checkpoint(str(DATA / name))
    spec = read_spec(checkpoint.config)
    return checkpoint, Program(spec, build_decoder(spec), weights_for(checkpoint, spec))


def make_streams(name, form, seed=0):
    """Streams of random numbers, as large as what they are added to."""
    checkpoint, program = read(name)
    spec = program.spec
    target = DraftTarget(
        spec.architecture, spec.vocab_size, spec.hidden_size, tokenizer_digest(checkpoint.tokenizer), name
    )
    config = StreamConfig(form, COUNT, int(form == "streams"), 3, ("q", "v", "o", "up", "down"), target)
    random = np.random.default_rng(seed)
    shapes = {value.name: program.weights.shape(value.name) for value in program.graph.weights}
    tensors = {
        key: (random.standard_normal(shape) * 0.3).astype(np.float16).astype(np.float32)
        for key, shape in tensor_shapes(config, spec, shapes).items()
    }
    return checkpoint, program, StreamCheckpoint(config, tensors)


def with_streams(program, tokens, places):
    """Inputs of a step of a text and the streams behind some of its tokens, and where those rows are."""
    n, spec = len(tokens), program.spec
    inputs = sequence_inputs(program, [np.concatenate([tokens, np.zeros(COUNT * len(places), np.int32)])])
    at = np.concatenate([np.arange(n), *(p + np.arange(1, COUNT + 1) for p in places)])
    seen = np.zeros((len(at), len(at)), bool)
    seen[:n, :n] = np.tri(n, dtype=bool)
    streams = np.zeros((len(at), COUNT), np.float32)
    sources = np.arange(len(at), dtype=np.int32)
    for group, place in enumerate(places):
        first = n + COUNT * group
        for number in range(COUNT):
            row = first + number
            seen[row, : place + 1] = seen[row, first : row + 1] = True
            streams[row, number], sources[row] = 1, place
    distance = at[:, None] - at
    inputs |= {"positions": at.astype(np.int32), STREAMS: streams}
    inputs["mask"] = np.where(seen, np.float32(0), MASKED)
    if spec.window is not None:
        inputs["window_mask"] = np.where(seen & (distance < spec.window), np.float32(0), MASKED)
    if any(value.name == SOURCES for value in program.graph.inputs):
        inputs[SOURCES] = sources
    return inputs


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3"])
def test_rows_of_the_graph_are_those_that_were_trained(name, form):
    """Two graphs: in training the text runs first and streams are new tokens over its cells."""
    pytest.importorskip("jax", reason="needs the extra 'train'")
    from edgesdk_converters.training.draft_learner import freeze
    from edgesdk_converters.training.features import Features
    from edgesdk_converters.training.frozen_target import FrozenTarget
    from edgesdk_converters.training.losses import find_loss
    from edgesdk_converters.training.stream_batches import StreamBatches
    from edgesdk_converters.training.stream_learner import StreamLearner, StreamRows

    _, program, streams = make_streams(name, form)
    tokens = np.random.default_rng(3).integers(3, 60, 14).astype(np.int32)
    places = np.array([2, 7, 11], np.int32)
    grown = add_streams(program, streams)
    logits = evaluate(grown.graph, grown.weights, with_streams(grown, tokens, places.tolist()))["logits"]

    config = streams.config
    rows = StreamRows(config, program, len(tokens), "float32")
    features = Features(
        tokens,
        np.zeros((14, program.spec.hidden_size), np.float16),
        np.zeros(14, np.float32),
        np.array([[0, 14, 0]], np.int64),
    )
    start = None
    if config.first:
        from edgesdk_converters.streams.stream_start import stream_before

        value = stream_before(program.graph, program.spec, config.first)
        start = FrozenTarget(program, 14, value).states([tokens])[0].hidden
    batches = StreamBatches(features, start, count=COUNT, tokens=14, places=3, seed=0)
    frozen = freeze(program, np.arange(program.spec.vocab_size, dtype=np.int32))
    learner = StreamLearner(rows, program, frozen, batches, find_loss("kld"), 0)
    judged, _ = learner.judge(
        dict(streams.tensors), learner.tensors(batches.read([(0, 14, 0)], places)), None, None
    )
    found = logits[14:].reshape(3, COUNT, -1).swapaxes(0, 1)
    np.testing.assert_allclose(judged.draft, found, atol=3e-4)
    plain = evaluate(program.graph, program.weights, sequence_inputs(program, [tokens]))["logits"]
    assert np.abs(found[0, 1] - plain[7]).max() > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_tokens_stay_what_they_are(form):
    _, program, streams = make_streams("llama", form)
    tokens = np.random.default_rng(4).integers(3, 60, 12).astype(np.int32)
    grown = add_streams(program, streams)
    plain = evaluate(program.graph, program.weights, sequence_inputs(program, [tokens]))
    beside = evaluate(grown.graph, grown.weights, with_streams(grown, tokens, [1, 5, 11]))
    for name, value in plain.items():
        found = beside[name][:, :12] if CellName.parse(name) else beside[name][:12]
        np.testing.assert_allclose(found, value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_transforms_carry_streams(form, recipe):
    """Folded, rotated and fused, whatever the recipe asks for, in float32."""
    _, program, streams = make_streams("llama", form)
    tokens = np.random.default_rng(5).integers(3, 60, 12).astype(np.int32)
    grown = add_streams(program, streams)
    prepared = prepare(grown, find_recipe(recipe))
    inputs = with_streams(grown, tokens, [2, 9])
    whole = evaluate(grown.graph, grown.weights, inputs)["logits"]
    found = evaluate(prepared.graph, prepared.weights, inputs)["logits"]
    np.testing.assert_allclose(found, whole, atol=2e-3)


def test_streams_are_added_once():
    _, program, streams = make_streams("llama", "masks")
    with pytest.raises(TransformError, match="has streams or adapters already"):
        add_streams(add_streams(program, streams), streams)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A bundle of the tiny model with streams in each form."""
    folder = tmp_path_factory.mktemp("with-streams")
    found = {}
    for form in FORMS:
        *_, streams = make_streams("llama", form)
        write_streams(folder / form, streams)
        options = ConvertOptions(
            targets=("litert", "onnx-step"),
            recipes=("f32", "w8-round"),
            context=128,
            prove=False,
            streams=folder / form,
        )
        convert(str(DATA / "llama"), folder / f"{form}-bundle", options)
        found[form] = folder / f"{form}-bundle"
    return found


def tree_of(rows):
    return DraftTree(
        np.array([token for token, _, _ in rows], np.int32),
        np.array([parent for _, parent, _ in rows], np.int32),
        np.array([number for *_, number in rows], np.int32),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["litert", "onnxruntime-step"])
def test_files_say_what_the_graph_says(bundles, form, backend):
    """A tree with streams behind its root and two of its tokens, over cells of a text."""
    _, program, streams = make_streams("llama", form)
    grown = add_streams(program, streams)
    tokens = np.random.default_rng(6).integers(3, 60, 9).astype(np.int32)
    # after the last token: 7 then 9, streams of the root, of 7 and of 9
    tree = tree_of([(7, -1, 0), (9, 0, 0), (0, -1, 1), (0, 2, 2), (0, 0, 1), (0, 4, 2), (0, 1, 1), (0, 6, 2)])
    expected = []
    for path in ([], [7], [7, 9]):
        text = np.concatenate([tokens, np.array(path, np.int32)])
        inputs = with_streams(grown, text, [len(text) - 1])
        logits = evaluate(grown.graph, grown.weights, inputs)["logits"]
        expected.append(logits[len(text) - 1 :])
    with edgesdk.load(bundles[form], backend=backend, recipe="f32", strict=True, threads=1) as model:
        runner = StepRunner(steps_of(model.backend), model.decoder, 128)
        cells = runner.new_list()
        runner.run([StepEntry(cells, tokens[:-1], "none")])
        (rows,) = runner.run([StepEntry(cells, tokens[-1:], "last", tree)])
        np.testing.assert_allclose(rows[0], expected[0][0], atol=2e-4)
        np.testing.assert_allclose(rows[3:5], expected[0][1:], atol=2e-4)
        np.testing.assert_allclose(rows[1], expected[1][0], atol=2e-4)
        np.testing.assert_allclose(rows[5:7], expected[1][1:], atol=2e-4)
        np.testing.assert_allclose(rows[2], expected[2][0], atol=2e-4)
        np.testing.assert_allclose(rows[7:9], expected[2][1:], atol=2e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["litert", "onnxruntime-step"])
def test_keys_and_values_beside_streams_are_those_without(bundles, converted_once, form, backend):
    plain = converted_once(
        DATA / "llama", targets=("litert", "onnx-step"), recipes=("f32",), context=128, prove=False
    )
    tokens = np.random.default_rng(7).integers(3, 60, 10).astype(np.int32)
    found = []
    for path, tree in (
        (plain, [(5, -1, 0)]),
        (bundles[form], [(5, -1, 0), (0, -1, 1), (0, 0, 1), (0, 2, 2)]),
    ):
        with edgesdk.load(path, backend=backend, recipe="f32", strict=True, threads=1) as model:
            runner = StepRunner(steps_of(model.backend), model.decoder, 128)
            cells = runner.new_list()
            runner.run([StepEntry(cells, tokens[:-1], "none")])
            drafts = tree_of(tree)
            if path == plain:
                drafts = DraftTree(drafts.tokens, drafts.parents)
            (rows,) = runner.run([StepEntry(cells, tokens[-1:], "last", drafts)])
            rows = rows[:2].copy()
            runner.keep(cells, [0])
            at = cells.cells_at(0, cells.length)
            planes = [array[..., at, :].copy() for array in runner.pool.cells.arrays]
            found.append((rows, planes))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
    for mine, other in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
SAMPLED = {"temperature": 0.9, "top_p": 0.95, "seed": 3, "ignore_eos": True}


def unweighed(model):
    drafter = lambda: CombinedDrafter([Lookup(), StreamDrafts()], weigh=False, streams=COUNT)  # noqa: E731
    size = model.bundle.manifest.decoder.vocab_size
    return Model(model.bundle, model.backend, model.receipt, drafts=DraftSource(drafter(), drafter, size))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["litert", "onnxruntime-step"])
def test_answers_are_those_without_streams(bundles, form, backend):
    random = np.random.default_rng(8)
    with edgesdk.load(bundles[form], backend=backend, recipe="f32", strict=True, threads=1) as model:
        size = model.bundle.manifest.decoder.vocab_size
        prompts = [random.integers(6, size, 3 + 9 * i).tolist() for i in range(5)]
        asked = [(prompt, options) for prompt in prompts for options in (GREEDY, SAMPLED)]
        plain = [model.generate(prompt, max_tokens=24, **options).tokens for prompt, options in asked]
        drafting = unweighed(model)
        found = [drafting.generate(prompt, max_tokens=24, **options).tokens for prompt, options in asked]
        figures = drafting.drafts.shared()
        assert figures is not None
        assert not drafting.drafts.notes
        assert found == plain
        with Engine(unweighed(model), token_budget=64, check_steps=True) as engine:
            running = [engine.submit(prompt, max_tokens=24, **options) for prompt, options in asked]
            assert [generation.result(120).tokens for generation in running] == plain
            assert engine.metrics.drafted_tokens > 0
            assert not engine.model.drafts.notes


def test_a_model_loads_with_its_streams(bundles):
    with edgesdk.load(bundles["masks"], backend="litert", recipe="w8-round", draft="streams") as model:
        assert "streams" in str(model.receipt)
        answer = model.generate([5, 6, 7], max_tokens=16, **GREEDY)
        assert answer.new_tokens == 16
        assert not model.drafts.notes
    with edgesdk.load(bundles["streams"], draft="auto", recipe="f32", backend="litert") as model:
        assert "streams" in str(model.receipt)


def test_a_bundle_says_what_its_streams_are(bundles):
    manifest = open_bundle(bundles["streams"]).manifest
    record = manifest.variants[0].stacks[0].streams
    assert (record.form, record.count, record.rank) == ("streams", COUNT, 3)
    assert record.layers == len(manifest.decoder.blocks) - 1


def test_a_bundle_without_streams_is_refused(converted_once):
    plain = converted_once(
        DATA / "llama", targets=("litert", "onnx-step"), recipes=("f32",), context=128, prove=False
    )
    with pytest.raises(
        UnsupportedOption, match=r"has no streams in litert-f32, .* convert it with --streams"
    ):
        edgesdk.load(plain, backend="litert", draft="streams", strict=True)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"targets": ("onnx",)}, "streams are for the targets litert, litert-static, onnx-step, found onnx"),
        ({"targets": ("litert",), "shallow": "0"}, "there is a shallow stack"),
        ({"targets": ("litert",), "adapters": True}, "there is --adapter"),
    ],
)
def test_what_cannot_be_with_streams_is_refused(tmp_path, wish, says):
    wish = dict(wish)
    if wish.pop("adapters", False):
        wish["adapters"] = (str(tmp_path),)
    with pytest.raises(UnsupportedOption, match=says):
        convert(str(DATA / "llama"), tmp_path / "out", ConvertOptions(streams=tmp_path, **wish))
    assert not (tmp_path / "out").exists()


def test_streams_of_another_model_or_damaged_ones_leave_nothing(tmp_path):
    *_, streams = make_streams("qwen3", "masks")
    write_streams(tmp_path / "other", streams)
    options = ConvertOptions(targets=("litert",), recipes=("f32",), prove=False, streams=tmp_path / "other")
    with pytest.raises(CheckpointError, match="streams were trained for 'qwen3'"):
        convert(str(DATA / "llama"), tmp_path / "out", options)
    *_, streams = make_streams("llama", "masks")
    tensors = dict(streams.tensors)
    tensors.pop("layers.0.q.A")
    write_streams(tmp_path / "less", dataclasses.replace(streams, tensors=tensors))
    with pytest.raises(CheckpointError, match=r"have no tensor 'layers.0.q.A'"):
        convert(
            str(DATA / "llama"), tmp_path / "out", dataclasses.replace(options, streams=tmp_path / "less")
        )
    with pytest.raises(CheckpointError):
        read_streams(tmp_path / "none")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["first", "count", "rank"])
def test_sizes_that_no_streams_have_are_told_briefly(tmp_path, name):
    *_, streams = make_streams("llama", "streams")
    write_streams(tmp_path, streams)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: 10**4000}))
    with pytest.raises(CheckpointError, match=f"{name} of streams") as refused:
        read_streams(tmp_path)
    assert len(str(refused.value)) < 400 + len(str(tmp_path))
    assert "holds no streams" in str(refused.value)
    assert "0" * 60 not in str(refused.value)
