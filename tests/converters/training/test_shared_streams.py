"""Streams that learn together with their model: another model comes out, and they are its rows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jax", reason="needs the extra 'train'")
pytest.importorskip("optax", reason="needs the extra 'train'")

import jax.numpy as jnp

import edgesdk
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.stream_drafts import StreamDrafts
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk.model import Model
from edgesdk_converters.adapters.adapter import parse_adapter
from edgesdk_converters.adapters.merge_adapter import merge_adapters
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.streams.stream_checkpoint import fit_streams, read_streams
from edgesdk_converters.training.features import LearningText
from edgesdk_converters.training.measure_change import ChangeMeter
from edgesdk_converters.training.stream_training import StreamTraining
from edgesdk_converters.training.train_streams import train_streams
from edgesdk_converters.training.trainer import STATE_FILE, read_log

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
OPTIONS = {
    form: StreamTraining(
        mode="shared",
        form=form,
        layers=layers,
        steps=40,
        hours=None,
        rank=4,
        words=64,
        streams=2,
        tokens=96,
        places=16,
        answer_tokens=1500,
    )
    for form, layers in (("masks", None), ("streams", 1))
}
FORMS = tuple(OPTIONS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both forms, from the same answers, with their reports."""
    folder = tmp_path_factory.mktemp("shared")
    reports = {}
    for form, options in OPTIONS.items():
        if form != FORMS[0]:
            take_answers(folder / FORMS[0], folder / form)
        reports[form] = train_streams(str(TINY), folder / form, options)
    return folder, reports


def take_answers(source, folder):
    (folder / "work").mkdir(parents=True)
    for name in ("answers.jsonl", "answers.json"):
        (folder / "work" / name).write_bytes((source / "work" / name).read_bytes())


def merged(folder):
    """The changed model, as `convert --merge-adapter` reads it."""
    request = parse_adapter(str(folder / "adapter"))
    checkpoint, history = merge_adapters(open_checkpoint(str(TINY)), [request])
    return checkpoint, read_program(checkpoint, history)


@pytest.mark.parametrize("form", FORMS)
def test_a_report_says_what_became_of_the_model(trained, form):
    folder, reports = trained
    lines = read_log(folder / form / "work" / "streams" / "log.jsonl")
    assert all(0 < line["nats"] < line["loss"] for line in lines)  # the streams' share is beside it
    assert reports[form].adapter == folder / form / "adapter"
    answers, sample = reports[form].changes
    assert answers.bits_after != answers.bits_before
    assert 0 < answers.same <= 1
    assert sample.tokens > 0
    record = json.loads((folder / form / "training.json").read_text(encoding="utf-8"))
    assert record["changes"][0]["bits_after"] == answers.bits_after


@pytest.mark.parametrize("form", FORMS)
def test_the_model_learns_a_text_that_it_reads_again_and_again(tmp_path, form):
    """A few answers, many times over: a model that learns at all learns these."""
    train_streams(
        str(TINY), tmp_path, replace(OPTIONS[form], answer_tokens=240, steps=60, learning_rate=1e-2)
    )
    lines = read_log(tmp_path / "work" / "streams" / "log.jsonl")
    assert lines[-1]["nats"] < 0.75 * lines[0]["nats"]
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"]


@pytest.mark.parametrize("form", FORMS)
def test_what_was_judged_is_the_merged_model(trained, form):
    """The figures of a change are those of the two checkpoints, by the other evaluator."""
    folder, _ = trained
    checkpoint, program = merged(folder / form)
    before = read_program(open_checkpoint(str(TINY)))
    streams = read_streams(folder / form)
    assert fit_streams(streams, program, checkpoint.tokenizer) is streams
    tokens = np.random.default_rng(0).integers(3, 60, 20).astype(np.int32)
    pair = [next(sequence_logits(each, [tokens])) for each in (before, program)]
    log_p = [each - np.log(np.exp(each).sum(axis=-1, keepdims=True)) for each in pair]
    nats = [-each[np.arange(4, 19), tokens[5:]].sum() for each in log_p]
    parameters = {}
    for name in streams.tensors:
        if name.endswith(".A"):
            weight = name[:-2]
            change = program.weights.load(weight) - before.weights.load(weight)
            parameters |= {
                f"base.{weight}.A": jnp.asarray(np.eye(change.shape[1], dtype=np.float32)),
                f"base.{weight}.B": jnp.asarray(change),
            }
    meter = ChangeMeter(before, checkpoint.tokenizer, 32)
    found = meter.measure(parameters, [LearningText(tokens, 4)], "some tokens")
    assert found.tokens == 15
    assert found.bits_after / found.bits_before == pytest.approx(nats[1] / nats[0], rel=1e-4)
    alike = pair[0][4:19].argmax(axis=-1) == pair[1][4:19].argmax(axis=-1)
    assert found.same == pytest.approx(alike.mean())


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_was_ended_ends_with_the_same_bits(trained, tmp_path, form):
    folder, _ = trained
    take_answers(folder / form, tmp_path)

    def stop(progress):
        if progress.stage == "training" and "step 20" in progress.what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_streams(str(TINY), tmp_path, OPTIONS[form], report=stop)
    assert (tmp_path / "work" / "streams" / STATE_FILE).exists()
    files = ("model.safetensors", "adapter/adapter_model.safetensors", "config.json")
    half = (tmp_path / files[1]).read_bytes()
    assert half != (folder / form / files[1]).read_bytes()
    train_streams(str(TINY), tmp_path, OPTIONS[form])
    for name in files:
        assert (tmp_path / name).read_bytes() == (folder / form / name).read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_model_answers_as_it_does_without_its_streams(trained, tmp_path, form):
    folder, _ = trained
    adapter = str(folder / form / "adapter")
    plain = ConvertOptions(targets=("litert",), recipes=("f32",), prove=False, merge_adapters=(adapter,))
    convert(str(TINY), tmp_path / "plain", plain)
    convert(str(TINY), tmp_path / "streams", replace(plain, streams=folder / form))
    greedy = {"temperature": 0.0, "max_tokens": 24, "ignore_eos": True}
    prompts = np.random.default_rng(1).integers(3, 60, (5, 9)).tolist()
    with edgesdk.load(tmp_path / "plain", threads=1) as model:
        answers = [model.generate(prompt, **greedy).tokens for prompt in prompts]
    with edgesdk.load(tmp_path / "streams", threads=1) as model:
        make = lambda: CombinedDrafter([StreamDrafts()], weigh=False, streams=2)  # noqa: E731
        drafts = DraftSource(make(), make, model.decoder.vocab_size)
        drafting = Model(model.bundle, model.backend, model.receipt, drafts=drafts)
        found = [drafting.generate(prompt, **greedy) for prompt in prompts]
    assert [each.tokens for each in found] == answers
    assert sum(each.drafted_tokens for each in found) > 0


def test_streams_fit_no_model_but_the_changed_one(trained, tmp_path):
    folder, _ = trained
    checkpoint = open_checkpoint(str(TINY))
    streams = read_streams(folder / "masks")
    wish = ConvertOptions(targets=("litert",), prove=False, streams=folder / "masks")
    with pytest.raises(CheckpointError, match="give --merge-adapter STREAMS/adapter"):
        fit_streams(streams, read_program(checkpoint), checkpoint.tokenizer)
    _, other = merged(folder / "streams")
    with pytest.raises(CheckpointError, match="and no other"):
        fit_streams(streams, other, checkpoint.tokenizer)
    with pytest.raises(CheckpointError, match="trained together with changes"):
        convert(str(TINY), tmp_path / "out", wish)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_adapter_s_place_is_said_before_anything_is_learnt(tmp_path):
    (tmp_path / "adapter").write_text("mine", encoding="utf-8")
    with pytest.raises(UnsupportedOption, match="adapter is a file, expected the adapter's folder"):
        train_streams(str(TINY), tmp_path, OPTIONS["masks"])
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
