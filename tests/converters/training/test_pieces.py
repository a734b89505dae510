"""The parts of training a draft: instructions, words, windows, a walk through an answer, the draft."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs the extra 'train'")

import jax.numpy as jnp  # noqa: E402

from edgesdk.errors import CheckpointError, UnsupportedOption  # noqa: E402
from edgesdk_converters.training.choose_words import choose_words  # noqa: E402
from edgesdk_converters.training.draft_batches import WINDOW, DraftBatches  # noqa: E402
from edgesdk_converters.training.draft_learner import DraftLearner, freeze  # noqa: E402
from edgesdk_converters.training.features import LearningText, collect_features  # noqa: E402
from edgesdk_converters.training.frozen_target import FrozenTarget  # noqa: E402
from edgesdk_converters.training.losses import LOSSES  # noqa: E402
from edgesdk_converters.training.measure_draft import measure_draft  # noqa: E402
from edgesdk_converters.training.products import find_product  # noqa: E402
from edgesdk_converters.training.recurrent_draft import DraftShape, new_parameters, unroll  # noqa: E402
from edgesdk_converters.training.seed_instructions import instructions, shipped_passages  # noqa: E402
from edgesdk_converters.training.teach_texts import read_texts  # noqa: E402
from edgesdk_converters.training.train_draft import hold_back  # noqa: E402

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SHAPE = DraftShape(64, 32, 2, 1e-5)


@pytest.fixture
def features(make_program, tmp_path):
    random = np.random.default_rng(4)
    texts = [
        LearningText(random.integers(0, 96, n).astype(np.int32), f) for n, f in ((70, 9), (33, 0), (7, 3))
    ]
    return collect_features(FrozenTarget(make_program("plain"), 80), texts, tmp_path / "f", "tiny")


def test_instructions_are_many_and_always_the_same():
    asked = list(islice(instructions(0, shipped_passages()), 3000))
    assert asked == list(islice(instructions(0, shipped_passages()), 3000))
    assert len({each.text for each in asked}) > 2000
    assert {each.kind for each in asked} >= {"ask", "code", "summary", "story"}
    assert asked[:50] != list(islice(instructions(1, shipped_passages()), 50))
    assert not any("{x}" in each.text or "{y}" in each.text for each in asked)


def test_nothing_is_judged_on_what_a_draft_has_learnt():
    asked = {each.text for each in islice(instructions(0, []), 20_000)}
    for name in ("draft_tasks.json", "draft_training_tasks.json"):
        for prompts in json.loads((BENCHMARKS / name).read_text(encoding="utf-8")).values():
            assert not asked & {each for each in prompts if isinstance(each, str)}, name  # schemas are none
    parity = BENCHMARKS.parent / "converters" / "edgesdk_converters" / "parity"
    lists = [BENCHMARKS / "chat_questions.txt", BENCHMARKS / "prompts.txt"]
    for path in (*lists, parity / "questions.txt", parity / "prompts.txt"):
        assert not asked & set(path.read_text(encoding="utf-8").splitlines()), path


def test_words_are_the_most_frequent_and_those_that_end_answers():
    texts = [np.array([5, 5, 7, 9, 9, 9], np.int32)]
    assert choose_words(texts, (3,), 12, 3).tolist() == [3, 5, 9]
    assert choose_words(texts, (3,), 12, 6).tolist() == [0, 1, 3, 5, 7, 9]  # the lowest ids fill up
    with pytest.raises(UnsupportedOption, match="a draft of 13 words was asked for, expected 2 to 12"):
        choose_words(texts, (3,), 12, 13)


def test_windows_hold_what_stands_behind_them(features):
    batches = DraftBatches(features, 3, 2, 0)
    assert batches.of_a_pass == 2  # 2 windows of the first text, 1 of the second and 1 of the third
    seen = set()
    for step in range(2):
        batch = batches.at(step)
        assert batch.hidden.shape == (2, WINDOW + 3, 64)
        for b, t, k in zip(*np.nonzero(batch.valid.transpose(1, 2, 0)), strict=True):
            row = np.flatnonzero((features.hidden == batch.hidden[b, t + k + 1]).all(axis=1))
            seen.add((int(row[0]), int(k)))
            text = next((s, s + n) for s, n, _ in features.bounds.tolist() if s <= row[0] < s + n)
            follows = features.tokens[row[0] + 1] if row[0] + 1 < text[1] else -1
            assert batch.follows[k, b, t] == follows
    # The first depth judges every position after the first one that is learnt from.
    assert sum(k == 0 for _, k in seen) == (70 - 10) + 32 + 3
    np.testing.assert_array_equal(batches.at(0).tokens, DraftBatches(features, 3, 2, 0).at(0).tokens)


def test_too_little_text_is_refused(features):
    with pytest.raises(
        UnsupportedOption, match=r"give 4 windows of 32 tokens, expected 9 or more; give more text"
    ):
        DraftBatches(features, 3, 9, 0)


def test_the_draft_is_what_its_format_says():
    """Against the words of the format, by numpy."""
    parameters = new_parameters(SHAPE, 1, 3.0)
    random = np.random.default_rng(0)
    hidden, embedded = random.standard_normal((5, 64)), random.standard_normal((2, 5, 64))
    head = random.standard_normal((11, 64))

    def norm(x, name):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * np.asarray(parameters[name])

    def feed(x, at):
        gate, up, down = (
            np.asarray(parameters[f"layers.{at}.{part}.weight"]) for part in ("gate", "up", "down")
        )
        return (x @ gate.T / (1 + np.exp(-(x @ gate.T))) * (x @ up.T)) @ down.T

    state, logits = hidden, []
    for e in embedded:
        state = state + feed(np.concatenate([norm(state, "norm_s.weight"), norm(e, "norm_e.weight")], -1), 0)
        state = state + feed(norm(state, "layers.1.norm.weight"), 1)
        logits.append(norm(state, "norm_o.weight") @ head.T)
    found = unroll(SHAPE, parameters, *(jnp.asarray(each, jnp.float32) for each in (hidden, embedded, head)))
    np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-3)


def test_rounded_products_are_near_and_so_are_their_gradients():
    random = np.random.default_rng(0)
    x, weight = (jnp.asarray(random.standard_normal(s), jnp.float32) for s in ((3, 5, 32), (7, 32)))

    def made(product):
        return jax.value_and_grad(lambda x, w: jnp.sin(product(x, w)).sum(), (0, 1))(x, weight)

    exact, rounded = made(find_product("float32")), made(find_product("bfloat16"))
    assert float(rounded[0]) == pytest.approx(float(exact[0]), abs=0.3)
    for ours, theirs in zip(rounded[1], exact[1], strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()


def test_acceptance_that_is_logged_is_one_minus_tvd(make_program, features):
    words = np.arange(0, 96, 2, dtype=np.int32)
    frozen = freeze(make_program("plain"), words)
    learner = DraftLearner(SHAPE, frozen, DraftBatches(features, 2, 3, 0), LOSSES["tvd"], 0, decay=1.0)
    parameters = learner.start()
    loss, figures = learner.loss(parameters, learner.batch(0), jax.random.key(0), jnp.zeros(()))
    valid = learner.batch(0)["valid"]
    kept = sum(float(figures[f"kept.{k}"]) * valid[k - 1].sum() for k in (1, 2)) / valid.sum()
    assert float(loss) == pytest.approx(1 - kept, abs=1e-5)


def test_what_a_draft_is_worth(make_program, features):
    """Against a walk that is written out, for a draft that has learnt nothing."""
    program = make_program("plain")
    frozen = freeze(program, np.arange(96, dtype=np.int32))
    parameters = new_parameters(SHAPE, 1, 1.0)
    found = measure_draft(SHAPE, parameters, frozen, features, [0, 1], depth=3)
    right = []
    for start, length, first in features.bounds[:2].tolist():
        for t in range(start + first, start + length - 1):
            row = []
            for k in (1, 2, 3):
                if t + k + 1 >= start + length:
                    row.append(False)
                    continue
                hidden = jnp.asarray(features.hidden[t], jnp.float32)[None]
                along = frozen.embedding[features.tokens[t + 1 : t + 1 + k]][:, None]
                logits = unroll(SHAPE, parameters, hidden, along, frozen.head.rows)
                row.append(int(logits[-1, 0].argmax()) == features.tokens[t + k + 1])
            right.append(np.cumprod(row))
    reach = np.array(right)
    np.testing.assert_allclose(found.right, reach.mean(axis=0), atol=1e-6)
    assert found.tokens == 60 + 32
    for gamma in (1, 2, 3):
        steps = at = 0
        while at < len(reach):
            end = 60 if at < 60 else 92  # the second text begins anew
            at = min(at + 1 + reach[at, :gamma].sum(), end)
            steps += 1
        assert found.efficiency[gamma - 1] == pytest.approx(92 / steps)


@pytest.mark.parametrize(
    ("greedy", "held"), [((), []), ((3,), []), ((3, 8), [8]), (range(0, 44, 4), [16, 36])]
)
def test_some_greedy_answers_are_held_back(greedy, held):
    assert sorted(hold_back(frozenset(greedy))) == held


def test_answers_of_another_kind_are_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"number": 1}\n', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"line 1 of .*answers\.jsonl is no answer"):
        read_texts(path)
