"""Beam search against the enumeration of everything, over a model that is a table of logits."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.decoding.beam import _largest, beam_search
from edgesdk.decoding.beam_cells import CellBranches
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption
from edgesdk.kv.step_runner import StepRunner

V = 4
EOS = 0


class Table:
    """Branches whose logits depend on all their tokens; counts what is alive and what is run."""

    def __init__(self, seed, scale=1.0, room=None):
        self.seed, self.scale, self.room = seed, scale, room
        self.alive, self.most, self.steps = 0, 0, 0

    def logits(self, tokens):
        key = int("".join(str(t + 1) for t in (self.seed, *tokens)))
        return np.random.default_rng(key).normal(scale=self.scale, size=V).astype(np.float32)

    def extend(self, branches, tokens):
        self.steps += 1
        if self.room is not None and self.steps > self.room:
            raise CapacityError("full")
        for branch, token in zip(branches, tokens, strict=True):
            branch.append(token)
        return np.array([self.logits(branch) for branch in branches])

    def fork(self, branch):
        self.alive += 1
        self.most = max(self.most, self.alive)
        return list(branch)

    def drop(self, branch):
        self.alive -= 1


def logprobs(logits):
    wide = logits.astype(np.float64)
    return wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())


def every_continuation(table, longest, alpha):
    found = []
    for length in range(1, longest + 1):
        for tokens in itertools.product(range(V), repeat=length):
            if EOS in tokens[:-1] or (length < longest and tokens[-1] != EOS):
                continue
            logprob = sum(logprobs(table.logits(tokens[:i]))[t] for i, t in enumerate(tokens))
            found.append((logprob / ((5 + length) / 6) ** alpha, tokens))
    return sorted(found, key=lambda each: (-each[0], each[1]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    longest=st.integers(1, 4),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 2.0]),
    scale=st.sampled_from([0.3, 1.0, 4.0]),
)
def test_a_search_wide_enough_finds_the_best_of_all(seed, longest, alpha, scale):
    table = Table(seed, scale)
    width = V**longest
    beams = beam_search(
        table, [], table.logits([]), width=width, max_tokens=longest, eos_ids=[EOS], length_penalty=alpha
    )
    expected = every_continuation(table, longest, alpha)[:width]
    assert [beam.tokens for beam in beams] == [tokens for _, tokens in expected]
    assert np.allclose([beam.score for beam in beams], [score for score, _ in expected])
    for beam in beams:
        assert beam.finished == (beam.tokens[-1] == EOS)
        assert math.isclose(beam.score, beam.logprob / ((5 + len(beam.tokens)) / 6) ** alpha)
    assert table.alive == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), width=st.integers(1, 5), scale=st.sampled_from([1.0, 5.0]))
def test_stopping_early_changes_nothing(seed, width, scale):
    """The plain algorithm, which follows `width` branches to the end whatever has finished."""
    table, longest, alpha = Table(seed, scale), 6, 0.6
    live, done = [((), 0.0)], []
    for length in range(1, longest + 1):
        grown = []
        for tokens, p in live:
            for token, q in enumerate(logprobs(table.logits(tokens))):
                (done if token == EOS or length == longest else grown).append(((*tokens, token), p + q))
        if length == longest:
            cut = sorted((d for d in done if len(d[0]) == longest and d[0][-1] != EOS), key=lambda x: -x[1])
            done = [d for d in done if d not in cut[width:]]
        live = sorted(grown, key=lambda x: -x[1])[:width]
    best = sorted(done, key=lambda x: -x[1] / ((5 + len(x[0])) / 6) ** alpha)[:width]
    beams = beam_search(table, [], table.logits([]), width=width, max_tokens=longest, eos_ids=[EOS])
    assert [beam.tokens for beam in beams] == [tokens for tokens, _ in best]
    assert table.most <= width
    assert table.alive == 0


def test_width_one_without_penalty_follows_the_likeliest():
    table = Table(3)
    (beam,) = beam_search(table, [], table.logits([]), width=1, max_tokens=5, length_penalty=0.0)
    greedy = []
    for _ in range(5):
        greedy.append(int(np.argmax(table.logits(greedy))))
    assert beam.tokens == tuple(greedy)


def test_it_stops_when_nothing_can_get_better():
    table = Table(0)
    sure = np.array([50, 0, 0, 0], np.float32)
    (beam,) = beam_search(table, [], sure, width=1, max_tokens=100, eos_ids=[EOS])
    assert beam.tokens == (EOS,)
    assert table.steps == 0


def test_banned_tokens_are_never_followed():
    table = Table(0)
    beams = beam_search(
        table, [], np.array([-np.inf, 1, -np.inf, -np.inf], np.float32), width=3, max_tokens=1
    )
    assert [beam.tokens for beam in beams] == [(1,)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    with pytest.raises(DeviceError, match="not finite"):
        beam_search(Table(0), [], np.array([0, value, 1, 2], np.float32), width=2, max_tokens=1)


def test_a_failure_leaves_no_branch():
    table = Table(1, room=2)
    with pytest.raises(CapacityError):
        beam_search(table, [], table.logits([]), width=3, max_tokens=9)
    assert table.alive == 0


@pytest.mark.parametrize("bad", [{"width": 0}, {"max_tokens": 0}, {"length_penalty": -1.0}])
def test_values_without_meaning_are_refused(bad):
    table = Table(0)
    with pytest.raises(UnsupportedOption, match=f"{next(iter(bad))} is .*, expected "):
        beam_search(table, [], table.logits([]), **({"width": 2, "max_tokens": 3} | bad))


def test_over_shared_cells_it_finds_what_separate_sequences_would():
    spec = UniformDecoder(
        "llama", 40, 8, 8, 2, 1, 4, 64, (LayerSpec(None, None),) * 2, 1e-5, "silu", 1.0
    ).spec()
    shapes = [StepShape(T, S, R, f"t{T}_s{S}_r{R}") for T, R in ((1, 1), (4, 4), (8, 1)) for S in (16, 64)]
    backend = FakeStepBackend(spec, shapes)
    runner = StepRunner(backend, spec, 64)
    branches = CellBranches(runner, 40)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    root, logits = branches.start(prompt)
    assert np.array_equal(logits, backend.expected_logits(prompt)[-1])
    held = runner.pool.used
    backend.runs.clear()
    beams = beam_search(branches, root, logits, width=3, max_tokens=6, eos_ids=[0])
    assert len(backend.runs) <= 5  # one step for all branches
    assert runner.pool.used == held == len(prompt)

    class Separate:
        def extend(self, sequences, tokens):
            for each, token in zip(sequences, tokens, strict=True):
                each.append(token)
            return np.array([backend.expected_logits([*prompt, *each])[-1] for each in sequences])

        def fork(self, sequence):
            return list(sequence)

        def drop(self, sequence):
            pass

    expected = beam_search(Separate(), [], logits, width=3, max_tokens=6, eos_ids=[0])
    assert beams == expected
    root.close()
    assert runner.pool.used == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    size=st.sampled_from([3, 63, 64, 65, 700, 1000]),
    count=st.integers(1, 12),
    levels=st.sampled_from([None, 2, 30]),
    banned=st.booleans(),
)
def test_the_largest_of_many_are_among_those_that_are_looked_at(seed, size, count, levels, banned):
    random = np.random.default_rng(seed)
    row = random.normal(size=size).astype(np.float32)
    if levels is not None:  # many equals
        row = np.floor(row * levels).astype(np.float32)
    if banned:
        row[random.random(size) < 0.9] = -np.inf
    found = _largest(row, count)
    assert (np.diff(found) > 0).all()
    least = np.sort(row)[-min(count, size)]
    assert set(np.flatnonzero(row >= least)) <= set(found)
