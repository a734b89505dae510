"""Whatever the chunking, truncation, windows and sizes: exactly the logits of the whole."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.cell_sequence import CellSequence

RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
WINDOWS = st.sampled_from([None, 1, 2, 5, 17, 200])


@pytest.mark.parametrize("window", [None, 1, 3, 20])
def test_whole_chunked_and_one_by_one_are_equal(build, tokens, window):
    backend, whole = build(window)
    expected = backend.expected_logits(tokens)
    assert np.array_equal(whole.extend(tokens), expected[-1])
    _, single = build(window)
    for index in range(len(tokens)):
        assert np.array_equal(single.extend(tokens[index : index + 1]), expected[index])
    _, scored = build(window)
    assert np.array_equal(scored.score(tokens), expected)


@RELAXED
@given(data=st.data(), window=WINDOWS)
def test_any_history_gives_the_logits_of_what_is_left(build, tokens, data, window):
    backend, sequence = build(window)
    expected = backend.expected_logits(tokens)
    for _ in range(data.draw(st.integers(1, 12))):
        length = sequence.length
        action = data.draw(st.sampled_from(["extend", "score", "truncate"]))
        if action == "truncate" or length == len(tokens):
            sequence.truncate(data.draw(st.integers(0, length)))
            continue
        count = data.draw(st.integers(1, len(tokens) - length))
        piece = tokens[length : length + count]
        if action == "extend":
            assert np.array_equal(sequence.extend(piece), expected[length + count - 1])
        else:
            assert np.array_equal(sequence.score(piece), expected[length : length + count])
        assert sequence.length == length + count


@RELAXED
@given(data=st.data(), window=WINDOWS)
def test_sequences_that_take_turns_on_one_backend_do_not_disturb_each_other(
    build, spec, shapes, data, window
):
    backend = FakeStepBackend(spec(window), shapes())
    sequences = [CellSequence(backend, spec(window), 64) for _ in range(2)]
    contents = [[], []]
    for _ in range(12):
        which = data.draw(st.integers(0, 1))
        keep = data.draw(st.integers(0, len(contents[which])))
        new = data.draw(st.lists(st.integers(0, 49), min_size=1, max_size=64 - keep))
        sequences[which].truncate(keep)
        contents[which] = contents[which][:keep] + new
        found = sequences[which].extend(np.array(new, np.int32))
        assert np.array_equal(found, backend.expected_logits(contents[which])[-1])


@pytest.mark.parametrize(
    "offered",
    [
        [(1, 64, 1)],
        [(1, 8, 1), (1, 64, 1)],
        [(16, 64, 1)],
        [(16, 64, 3)],
        [(16, 64, 16)],
        [(1, 64, 1), (8, 16, 8), (32, 8, 1)],
        [(1, 8, 1), (1, 24, 1), (1, 64, 1), (16, 40, 1), (16, 64, 16)],
    ],
)
@pytest.mark.parametrize("window", [None, 6])
def test_whatever_sizes_a_variant_offers(build, tokens, offered, window):
    offered = [StepShape(*size, f"{size}") for size in offered]
    backend, sequence = build(window, offered)
    expected = backend.expected_logits(tokens)
    assert np.array_equal(sequence.extend(tokens[:30]), expected[29])
    assert np.array_equal(sequence.score(tokens[30:50]), expected[30:50])
    sequence.truncate(2)
    for index in range(2, 40):
        assert np.array_equal(sequence.extend(tokens[index : index + 1]), expected[index])
    assert np.array_equal(sequence.extend(tokens[40:]), expected[-1])


def test_sizes_are_the_smallest_that_do(build, tokens):
    backend, sequence = build()
    sequence.extend(tokens[:19])
    assert [(s.tokens, s.cells, s.rows) for s in backend.runs] == [(16, 8, 1), (4, 24, 1)]
    backend.runs.clear()
    sequence.extend(tokens[19:20])
    assert [(s.tokens, s.cells) for s in backend.runs] == [(1, 24)]
    backend.runs.clear()
    sequence.truncate(3)
    sequence.score(tokens[3:6])
    assert [(s.tokens, s.cells, s.rows) for s in backend.runs] == [(4, 8, 4)]


def test_a_decode_step_writes_one_column_of_the_mask(build, tokens):
    backend, sequence = build(window=5)
    sequence.extend(tokens[:9])
    sequence.extend(tokens[9:10])
    buffers = backend.buffers(StepShape(1, 24, 1, "t1_s24_r1"))
    before, window_before = buffers.mask.copy(), buffers.window_mask.copy()
    sequence.extend(tokens[10:11])
    assert np.flatnonzero(buffers.mask != before).size == 1
    assert np.flatnonzero(buffers.window_mask != window_before).size == 2


def test_too_many_tokens_change_nothing(build, tokens):
    backend, sequence = build(context=20)
    sequence.extend(tokens[:15])
    runs = len(backend.runs)
    for call in (sequence.extend, sequence.score):
        with pytest.raises(CapacityError, match="6 tokens after 15 do not fit the context of 20") as caught:
            call(tokens[15:21])
        assert "\n" not in str(caught.value)
    assert sequence.length == 15
    assert len(backend.runs) == runs
    assert np.array_equal(sequence.extend(tokens[15:20]), backend.expected_logits(tokens[:20])[-1])
    assert sequence.length == sequence.context == 20


def test_no_tokens_and_impossible_lengths_are_refused(build, tokens):
    _, sequence = build()
    with pytest.raises(CapacityError, match="at least one"):
        sequence.extend(tokens[:0])
    sequence.extend(tokens[:4])
    for length in (-1, 5):
        with pytest.raises(CapacityError, match="cannot shorten"):
            sequence.truncate(length)


def test_a_context_beyond_the_cells_on_offer_is_refused(build, shapes):
    with pytest.raises(DeviceError, match="holds 24 cells at most, its context is 25"):
        build(shapes=shapes(cells=(8, 24)), context=25)


def test_a_failing_step_adds_no_tokens(build, tokens, monkeypatch):
    backend, sequence = build()
    sequence.extend(tokens[:5])
    monkeypatch.setattr(backend, "run", lambda shape, cells: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sequence.extend(tokens[5:8])
    monkeypatch.undo()
    assert sequence.length == 5
    assert np.array_equal(sequence.extend(tokens[5:8]), backend.expected_logits(tokens[:8])[-1])


def test_gates_that_there_are_not_change_nothing(build, tokens):
    backend, sequence = build()
    with pytest.raises(DeviceError, match="1 adapters are to be run by a file with 0"):
        sequence.use_gates((1.0,))
    assert np.array_equal(sequence.extend(tokens[:9]), backend.expected_logits(tokens[:9])[-1])


def test_cells_are_given_back(build, tokens):
    _, sequence = build()
    sequence.extend(tokens)
    assert sequence.nbytes == 3 * 2 * 2 * 64 * 3 * 4
    sequence.close()
    assert sequence.nbytes == 0


class IdleBackend(FakeStepBackend):
    """Runs nothing: what is left is the host's own work."""

    def run(self, shape, cells):
        pass


def test_the_host_takes_little_time_per_token(spec):
    """Loose on purpose, for shared machines; docs give what an idle one measures."""
    shapes = [StepShape(1, 512, 1, "decode")]
    backend = IdleBackend(spec(window=128), shapes)
    for array in backend.buffers(shapes[0]).kv_new.arrays:
        array[...] = 0
    sequence = CellSequence(backend, spec(window=128), 512)
    token = np.zeros(1, np.int32)
    took = []
    for _ in range(500):
        start = time.perf_counter()
        sequence.extend(token)
        took.append(time.perf_counter() - start)
    assert np.median(took) < 1e-3
