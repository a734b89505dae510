"""Streams: the rows that learn are the model's own, and a training from a tiny checkpoint to a folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jax", reason="needs the extra 'train'")
pytest.importorskip("optax", reason="needs the extra 'train'")

import jax.numpy as jnp

from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import DraftTarget, tokenizer_digest
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.streams.stream_checkpoint import fit_streams, read_streams
from edgesdk_converters.streams.stream_config import START, StreamConfig
from edgesdk_converters.streams.stream_start import stream_before
from edgesdk_converters.training.draft_learner import freeze
from edgesdk_converters.training.features import Features
from edgesdk_converters.training.frozen_target import FrozenTarget, scaled_embedding
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.stream_batches import StreamBatches
from edgesdk_converters.training.stream_learner import StreamLearner, StreamRows
from edgesdk_converters.training.stream_training import StreamTraining
from edgesdk_converters.training.train_streams import train_streams
from edgesdk_converters.training.trainer import LOG_FILE, STATE_FILE, read_log

DATA = Path(__file__).parents[2] / "data" / "tiny"
TINY = DATA / "llama"
SMALL = {"steps": 40, "hours": None, "rank": 4, "words": 64, "streams": 2, "tokens": 96, "places": 16}


def program_of(name):
    checkpoint = open_checkpoint(str(DATA / name))
    spec = read_spec(checkpoint.config)
    return checkpoint, Program(spec, build_decoder(spec), weights_for(checkpoint, spec))


def learner_of(name, form, tokens, *, count=2, first=0):
    """A learner over one text, whose states the target gives."""
    checkpoint, program = program_of(name)
    spec = program.spec
    target = DraftTarget(
        spec.architecture, spec.vocab_size, spec.hidden_size, tokenizer_digest(checkpoint.tokenizer), name
    )
    config = StreamConfig(form, count, first, 4, ("q", "o", "down"), target)
    n = len(tokens)
    (whole,) = FrozenTarget(program, n).states([tokens])
    features = Features(
        tokens,
        whole.hidden.astype(np.float16),
        whole.log_z,
        np.array([[0, n, 0]], np.int64),
    )
    start = None
    if first:
        value = stream_before(program.graph, spec, first)
        start = FrozenTarget(program, n, value).states([tokens])[0].hidden
    batches = StreamBatches(features, start, count=count, tokens=n, places=n - 2, seed=0)
    rows = StreamRows(config, program, n, "float32")
    frozen = freeze(program, np.arange(spec.vocab_size, dtype=np.int32))
    return program, StreamLearner(rows, program, frozen, batches, find_loss("kld"), 0), rows, batches


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3"])
def test_a_stream_that_begins_as_a_token_says_what_the_model_says_after_it(name):
    """Without low-rank parts and with embeddings to begin with, streams are the text gone on."""
    tokens = np.random.default_rng(0).integers(3, 60, 24).astype(np.int32)
    program, learner, _, batches = learner_of(name, "masks", tokens)
    follow = np.array([7, 11], np.int32)
    parameters = learner.start()
    parameters[START] = jnp.asarray(scaled_embedding(program)[follow])
    places = np.array([3, 9, 20], np.int32)
    batch = learner.tensors(batches.read([(0, 24, 0)], places))
    said, _ = learner.judge(parameters, batch, None, None)
    for m, place in enumerate(places):
        (logits,) = sequence_logits(program, [np.concatenate([tokens[: place + 1], follow])])
        np.testing.assert_allclose(said.draft[:, m], logits[-2:], atol=2e-4)


def test_a_stream_that_begins_as_its_token_is_that_token():
    """In the form streams, with nothing added, one stream is its token's row again at the next position."""
    tokens = np.random.default_rng(1).integers(3, 60, 16).astype(np.int32)
    _, learner, rows, batches = learner_of("llama", "streams", tokens, first=1, count=1)
    parameters = learner.start()
    parameters[START] = jnp.zeros_like(parameters[START])
    places = np.arange(0, 14, dtype=np.int32)
    whole = learner.tensors(batches.read([(0, 16, 0)], places))
    both = rows.hidden(parameters, whole)
    for place in (0, 5, 13):
        alone = learner.tensors(batches.read([(0, 16, 0)], np.array([place], np.int32)))
        np.testing.assert_allclose(rows.hidden(parameters, alone)[0], both[place], atol=1e-5)


def test_places_are_judged_by_what_the_model_says_there():
    tokens = np.random.default_rng(2).integers(3, 60, 16).astype(np.int32)
    program, learner, _, batches = learner_of("llama", "masks", tokens)
    (logits,) = sequence_logits(program, [tokens])
    batch = batches.read([(0, 16, 0)], np.array([4, 13], np.int32))
    judged, valid = learner.judge(learner.start(), learner.tensors(batch), None, None)
    log_q = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(judged.target[0, 0], log_q[5], atol=5e-3)
    np.testing.assert_allclose(judged.target[1, 0], log_q[6], atol=5e-3)
    assert judged.next_word[:, 0].tolist() == tokens[[6, 7]].tolist()
    assert valid.tolist() == [[True, True], [True, False]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Streams that learnt from answers, in both forms from the same ones."""
    folder = tmp_path_factory.mktemp("streams")
    options = StreamTraining(answer_tokens=1500, **SMALL)
    report = train_streams(str(TINY), folder / "masks", options)
    # One layer of random weights learns little: at the usual rate less than batches differ.
    other = replace(options, form="streams", layers=1, learning_rate=2e-2)
    (folder / "streams" / "work").mkdir(parents=True)
    for name in ("answers.jsonl", "answers.json"):
        (folder / "streams" / "work" / name).write_bytes((folder / "masks" / "work" / name).read_bytes())
    return (
        folder,
        {"masks": options, "streams": other},
        report,
        train_streams(str(TINY), folder / "streams", other),
    )


@pytest.mark.parametrize("form", ["masks", "streams"])
def test_streams_learn_and_are_what_converters_read(trained, form):
    folder, _, *reports = trained
    report = reports[form == "streams"]
    checkpoint, program = program_of("llama")
    streams = fit_streams(read_streams(folder / form), program, checkpoint.tokenizer)
    assert (streams.config.form, streams.config.count) == (form, 2)
    assert streams.config.first == (0 if form == "masks" else len(program.spec.blocks) - 1)
    lines = read_log(folder / form / "work" / "streams" / LOG_FILE)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert report.parameters == streams.parameters
    assert report.worth is not None
    assert all(1 <= each <= count + 1 for count, each in enumerate(report.worth.efficiency, 1))
    assert report.worth.branches[0] == report.worth.efficiency[-1]
    assert all(1 <= each <= 3 for each in report.worth.branches)
    assert list(report.worth.right) == sorted(report.worth.right, reverse=True)
    record = json.loads((folder / form / "training.json").read_text(encoding="utf-8"))
    assert record["share"] == report.share
    assert record["data"][0]["licence_of_the_instructions"] == "Apache-2.0"


@pytest.mark.parametrize("form", ["masks", "streams"])
def test_a_run_that_was_ended_ends_with_the_same_bits(trained, tmp_path, form):
    folder, options, *_ = trained
    (tmp_path / "work").mkdir()
    for name in ("answers.jsonl", "answers.json"):
        (tmp_path / "work" / name).write_bytes((folder / form / "work" / name).read_bytes())

    def stop(progress):
        if progress.stage == "training" and "step 20" in progress.what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_streams(str(TINY), tmp_path, options[form], report=stop)
    assert (tmp_path / "work" / "streams" / STATE_FILE).exists()
    half = read_streams(tmp_path)
    assert not np.array_equal(half.tensors[START], read_streams(folder / form).tensors[START])
    train_streams(str(TINY), tmp_path, options[form])
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / form / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"mode": "both"}, "mode is 'both', expected one of lossless, shared"),
        ({"streams": 9}, "streams is 9, expected 1 to 8"),
        ({"layers": 2}, "in the form masks streams run in all layers"),
        ({"parts": ("q", "w")}, "parts are q, w, expected some of q, k"),
        ({"form": "rows"}, "form is 'rows', expected one of masks, streams"),
    ],
)
def test_wishes_without_meaning_are_refused(wish, says):
    with pytest.raises(UnsupportedOption, match=says):
        StreamTraining(**wish)


def test_a_small_vocabulary_is_learnt_whole(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The sea is blue and the sky is wide. " * 40, encoding="utf-8")
    small = {**SMALL, "words": StreamTraining().words, "steps": 2}
    assert small["words"] > 288
    report = train_streams(str(TINY), tmp_path / "out", StreamTraining(data=(str(text),), **small))
    assert report.steps == 2


def test_more_layers_than_there_are_are_refused(tmp_path):
    options = StreamTraining(form="streams", layers=40, **SMALL)
    with pytest.raises(UnsupportedOption, match="streams are to run in 40 layers, expected 1 to 1"):
        train_streams(str(TINY), tmp_path, options)
    assert not (tmp_path / "work").exists()


def test_streams_of_another_model_are_refused(trained):
    folder, *_ = trained
    checkpoint, program = program_of("qwen3")
    with pytest.raises(CheckpointError, match="streams were trained for 'llama'"):
        fit_streams(read_streams(folder / "masks"), program, checkpoint.tokenizer)


def test_damaged_folders_are_refused(trained, tmp_path):
    folder, *_ = trained
    with pytest.raises(CheckpointError):
        read_streams(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / "masks" / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "first": 1}))
    with pytest.raises(CheckpointError, match="first of streams in the form masks is 1, expected 0"):
        read_streams(tmp_path)
