"""SmolLM2-135M with streams that have learnt nothing: whatever they say, the model stays what it is."""

import math

import numpy as np
import pytest

import edgesdk
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.stream_drafts import StreamDrafts
from edgesdk.kv.step_model import steps_of
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk.model import Model
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.drafts.draft_checkpoint import DraftTarget, tokenizer_digest
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint, write_streams
from edgesdk_converters.streams.stream_config import START, StreamConfig, tensor_shapes
from edgesdk_converters.training.stream_training import StreamTraining

pytestmark = pytest.mark.real
TEXTS = ("What is the capital of France?", "Write a haiku about the sea.", "Count from one to twenty.")


def random_streams(source, form, count, rank=4):
    """Streams of small random numbers; they begin as the mean embedding, or as their token."""
    checkpoint = open_checkpoint(str(source))
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    target = DraftTarget(
        spec.architecture, spec.vocab_size, spec.hidden_size, tokenizer_digest(checkpoint.tokenizer), "smol"
    )
    config = StreamConfig(form, count, 20 if form == "streams" else 0, rank, ("q", "o", "down"), target)
    random = np.random.default_rng(0)
    shapes = {value.name: program.weights.shape(value.name) for value in program.graph.weights}
    tensors = {
        name: (random.standard_normal(shape) * 0.02).astype(np.float32)
        for name, shape in tensor_shapes(config, spec, shapes).items()
    }
    if form == "masks":
        tensors[START] += program.weights.load("embed").mean(axis=0)
    return StreamCheckpoint(config, tensors)


@pytest.mark.parametrize("form", ["masks", "streams"])
def test_what_is_trained_is_a_twentieth_of_the_model_at_most(smollm2_gguf, form):
    """With the options as they are unless others are given."""
    options = StreamTraining(form=form)
    checkpoint = open_checkpoint(str(smollm2_gguf))
    spec = read_spec(checkpoint.config)
    shapes = {name: weights.shape(name) for weights in [weights_for(checkpoint, spec)] for name in weights}
    target = DraftTarget(
        spec.architecture, spec.vocab_size, spec.hidden_size, tokenizer_digest(checkpoint.tokenizer), "smol"
    )
    first = options.first(len(spec.blocks))
    config = StreamConfig(form, options.streams, first, options.rank, options.parts, target)
    trained = sum(math.prod(shape) for shape in tensor_shapes(config, spec, shapes).values())
    assert 0 < trained <= 0.05 * sum(math.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize("form", ["masks", "streams"])
def test_the_real_model_stays_what_it_is(smollm2_gguf, smollm2_float, tmp_path, form):
    write_streams(tmp_path / "streams", random_streams(smollm2_gguf, form, 2))
    options = ConvertOptions(
        targets=("litert",), recipes=("f32",), context=512, prove=False, streams=tmp_path / "streams"
    )
    convert(str(smollm2_gguf), tmp_path / "bundle", options)
    greedy = {"temperature": 0.0, "max_tokens": 24}
    found = []
    for path in (smollm2_float, tmp_path / "bundle"):
        with edgesdk.load(path, backend="litert", strict=True, threads=2) as model:
            prompts = [model.render_prompt(text) for text in TEXTS]
            answers = [model.generate(prompt, **greedy).tokens for prompt in prompts]
            runner = StepRunner(steps_of(model.backend), model.decoder, 512)
            cells = runner.new_list()
            tokens = np.array(prompts[0], np.int32)
            runner.run([StepEntry(cells, tokens[:-1], "none")])
            streams = np.array([0, 1, 2, 1, 2], np.int32) if path != smollm2_float else None
            drafted, parents = np.full(5, 9, np.int32), np.array([-1, -1, 1, 0, 3], np.int32)
            if streams is None:
                drafted, parents = drafted[:1], parents[:1]
            (rows,) = runner.run(
                [StepEntry(cells, tokens[-1:], "last", DraftTree(drafted, parents, streams))]
            )
            rows = rows[:2].copy()
            runner.keep(cells, [0])
            at = cells.cells_at(0, cells.length)
            found.append((answers, rows, [array[..., at, :].copy() for array in runner.pool.cells.arrays]))
            if streams is not None:
                source = lambda: CombinedDrafter([StreamDrafts()], weigh=False, streams=2)  # noqa: E731
                drafts = DraftSource(source(), source, model.decoder.vocab_size)
                drafting = Model(model.bundle, model.backend, model.receipt, drafts=drafts)
                assert [drafting.generate(prompt, **greedy).tokens for prompt in prompts] == answers
                assert not drafts.notes
    (plain, plain_rows, plain_cells), (mine, rows, kept) = found
    assert mine == plain
    np.testing.assert_allclose(rows, plain_rows, atol=1e-4)
    for a, b in zip(kept, plain_cells, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_file_grows_by_less_than_half_of_the_trained_draft(smollm2_gguf, converted_once, tmp_path):
    """Two streams of rank 32 in int8 (the draft that ships adds 9.2 MB); a step of one token is the same."""
    write_streams(tmp_path / "streams", random_streams(smollm2_gguf, "masks", 2, rank=32))
    options = {"targets": ("litert",), "recipes": ("w8-round",), "context": 2048, "prove": False}
    convert(str(smollm2_gguf), tmp_path / "bundle", ConvertOptions(streams=tmp_path / "streams", **options))
    paths = converted_once(smollm2_gguf, **options), tmp_path / "bundle"
    sizes = [(path / "variants/litert-w8-round/model.tflite").stat().st_size for path in paths]
    assert 4.2e6 < sizes[1] - sizes[0] <= 4.6e6
    found = []
    for path in paths:
        with edgesdk.load(path, backend="litert", strict=True, threads=1) as model:
            runner = StepRunner(steps_of(model.backend), model.decoder, 512)
            cells = runner.new_list()
            runner.run([StepEntry(cells, np.arange(100, 140, dtype=np.int32), "none")])
            found.append(runner.run([StepEntry(cells, np.array([7], np.int32), "last")])[0].copy())
    assert np.array_equal(*found)
