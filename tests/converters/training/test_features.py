"""What the frozen target says: the evaluator's numbers, kept on disk, gone on with, refused when damaged."""

import json

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs the extra 'train'")

from edgesdk.errors import CheckpointError, TransformError  # noqa: E402
from edgesdk_converters.graph.full_sequence import sequence_logits  # noqa: E402
from edgesdk_converters.training.features import (  # noqa: E402
    LearningText,
    collect_features,
    open_features,
)
from edgesdk_converters.training.frozen_target import FrozenTarget, HiddenStates, TargetHead  # noqa: E402

SIZES = (9, 20, 3, 32, 14)


@pytest.fixture
def texts():
    random = np.random.default_rng(2)
    return [LearningText(random.integers(0, 96, n).astype(np.int32), n // 3) for n in SIZES]


@pytest.mark.parametrize("name", ["plain", "untied", "gemma_like", "scaled", "mixed", "norms_of_rotated"])
def test_states_and_head_give_the_distribution_of_the_evaluator(make_program, texts, name):
    program = make_program(name)
    target = FrozenTarget(program, 48)
    words = np.arange(3, 90, 4, dtype=np.int32)
    head = TargetHead(program, words)
    found = target.states([text.tokens for text in texts[:3]])
    for text, state in zip(texts, found, strict=False):
        logits = next(sequence_logits(program, [text.tokens]))
        log_q = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        ours = np.asarray(head.logits(state.hidden)) - state.log_z[:, None]
        np.testing.assert_allclose(ours, log_q[:, words], atol=2e-4)


def test_features_hold_every_text(make_program, texts, tmp_path):
    target = FrozenTarget(make_program("plain"), 32)
    told = []
    features = collect_features(target, texts, tmp_path / "f", "tiny", told.append)
    assert told[-1] == sum(SIZES) == len(features.tokens)
    for text, (start, length, first) in zip(texts, features.bounds.tolist(), strict=True):
        np.testing.assert_array_equal(features.tokens[start : start + length], text.tokens)
        assert first == text.first
        alone = target.states([text.tokens])[0]
        np.testing.assert_allclose(features.hidden[start : start + length], alone.hidden, atol=3e-3)
        np.testing.assert_allclose(features.log_z[start : start + length], alone.log_z, atol=1e-4)


def test_a_run_that_was_ended_goes_on(make_program, texts, tmp_path):
    target = FrozenTarget(make_program("plain"), 32)
    whole = collect_features(target, texts, tmp_path / "whole", "tiny")

    def interrupt(tokens):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_features(target, texts, tmp_path / "parts", "tiny", interrupt)
    with (tmp_path / "parts" / "hidden.bin").open("ab") as file:
        file.write(b"half a row")  # what a killed run leaves
    asked = []
    states = target.states
    target.states = lambda some: asked.extend(some) or states(some)
    parts = collect_features(target, texts, tmp_path / "parts", "tiny")
    assert len(asked) == 2  # the first three texts fill a call
    for name in ("tokens", "hidden", "log_z", "bounds"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_a_longer_text_is_cut(make_program, texts, tmp_path):
    features = collect_features(FrozenTarget(make_program("plain"), 16), texts, tmp_path / "f", "tiny")
    assert features.bounds[:, 1].tolist() == [min(n, 16) for n in SIZES]


@pytest.mark.parametrize("change", ["origin", "texts"])
def test_other_features_are_refused(make_program, texts, tmp_path, change):
    target = FrozenTarget(make_program("plain"), 32)
    collect_features(target, texts, tmp_path, "tiny")
    others = texts if change == "origin" else texts[::-1]
    with pytest.raises(CheckpointError, match="another target or other texts; remove it"):
        collect_features(target, others, tmp_path, "other" if change == "origin" else "tiny")


@pytest.mark.parametrize("damage", ["cut", "gone", "index", "negative"])
def test_damaged_features_are_refused(make_program, texts, tmp_path, damage):
    collect_features(FrozenTarget(make_program("plain"), 32), texts, tmp_path, "tiny")
    if damage == "cut":
        (tmp_path / "hidden.bin").write_bytes(b"12")
    elif damage == "gone":
        (tmp_path / "log_z.bin").unlink()
    elif damage == "index":
        (tmp_path / "features.json").write_text("{", encoding="utf-8")
    else:
        index = json.loads((tmp_path / "features.json").read_text(encoding="utf-8"))
        (tmp_path / "features.json").write_text(json.dumps({**index, "tokens": -1}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="run again"):
        open_features(tmp_path)


def test_states_too_large_for_float16_are_refused(make_program, texts, tmp_path):
    target = FrozenTarget(make_program("plain"), 32)
    wild = HiddenStates(np.full((9, 64), 1e6, np.float32), np.zeros(9, np.float32))
    target.states = lambda some: [wild]
    with pytest.raises(TransformError, match="not finite in float16"):
        collect_features(target, texts[:1], tmp_path, "tiny")
