"""Texts that share steps give what each gives alone, and leave no cell behind."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import CapacityError
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk.vectors.run_texts import run_texts
from tests.edgesdk.kv.conftest import make_spec


def runner_of(context=32, rows=4, tokens=(1, 8)):
    spec = make_spec()
    shapes = [StepShape(T, S, min(T, rows), f"s{T}_{S}") for T in tokens for S in (16, context)]
    return StepRunner(FakeStepBackend(spec, shapes), spec, context)


def texts_of(lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(1, 40, length).astype(np.int32) for length in lengths]


def collected(runner, texts, **how):
    found = {place: [] for place in range(len(texts))}
    for piece in run_texts(runner, texts, **how):
        found[piece.place].append(piece.rows.copy())
        ended = sum(map(len, found[piece.place])) == len(texts[piece.place])
        assert piece.ended or how.get("give") != "every logits" or not ended
    assert runner.pool.used == (0 if how.get("after") is None else how["after"].length)
    return [np.concatenate(rows) for rows in found.values()]


LENGTHS = [3, 1, 20, 7, 8, 32, 2, 2, 2, 2, 2, 9]


@pytest.mark.parametrize("every_token", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 8])
def test_together_is_alone(every_token, rows):
    texts = texts_of(LENGTHS)
    together = collected(runner_of(rows=rows), texts, give="every logits" if every_token else "logits")
    for text, found in zip(texts, together, strict=True):
        (alone,) = collected(runner_of(rows=rows), [text], give="every logits" if every_token else "logits")
        assert len(found) == (len(text) if every_token else 1)
        np.testing.assert_array_equal(found, alone)


def test_texts_go_on_from_a_common_beginning():
    runner, (begun, *texts) = runner_of(), texts_of([10, 3, 12, 22, 1])
    base = runner.new_list()
    runner.run([StepEntry(base, begun[:8], "none")])
    runner.run([StepEntry(base, begun[8:], "none")])
    found = collected(runner, texts, after=base)
    for text, rows in zip(texts, found, strict=True):
        (alone,) = collected(runner_of(), [np.concatenate([begun, text])])
        np.testing.assert_array_equal(rows, alone)


def test_steps_are_full():
    runner = runner_of(tokens=(1, 8), rows=8)
    steps = []
    run, runner.run = (
        runner.run,
        lambda entries: (steps.append(sum(len(e.tokens) for e in entries)), run(entries))[1],
    )
    collected(runner, texts_of([5] * 8))
    assert steps == [8] * 5


def test_a_text_beyond_the_context_is_refused_before_any_runs():
    runner = runner_of()
    with pytest.raises(CapacityError, match="text 1 has 33 tokens, more than the context of 32"):
        list(run_texts(runner, texts_of([3, 33])))
    assert runner.pool.used == 0


def test_whoever_stops_reading_leaves_no_cells():
    runner = runner_of()
    pieces = run_texts(runner, texts_of([20, 20]))
    next(pieces)
    pieces.close()
    assert runner.pool.used == 0
