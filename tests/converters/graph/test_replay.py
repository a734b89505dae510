"""Replaying from a cut gives bit for bit what running the whole changed graph gives."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.replay import Replay
from edgesdk_converters.graph.weights import Derived, DerivedWeights


@pytest.fixture
def inputs(any_program, tokens):
    return sequence_inputs(any_program, [tokens, tokens[:7]])


def test_the_first_run_is_the_evaluators(any_program, inputs):
    replay = Replay(any_program.graph, any_program.weights, inputs)
    expected = evaluate(any_program.graph, any_program.weights, inputs)["logits"]
    np.testing.assert_array_equal(replay.result, expected)


def test_every_cut_leads_to_the_same_end(any_program, inputs):
    replay = Replay(any_program.graph, any_program.weights, inputs)
    # Before and after each half of each block, at least, but where later blocks read a block's keys.
    if any_program.spec.is_uniform:
        assert len(replay.cuts) > len(any_program.spec.halves)
    for cut in (0, *replay.cuts):
        np.testing.assert_array_equal(replay.run(cut), replay.result)


def test_a_changed_weight_counts_from_the_cut_before_it(any_program, inputs):
    replay = Replay(any_program.graph, any_program.weights, inputs)
    for name in ("layers.1.down", "layers.0.q", "final_norm"):
        halved = any_program.weights.load(name) / 2
        changed = DerivedWeights(
            any_program.weights,
            {name: Derived(halved.shape, lambda base, value=halved: value)},
            frozenset(),
        )
        expected = evaluate(any_program.graph, changed, inputs)["logits"]
        found = replay.run(replay.cut_before(name), changed={name: halved})
        np.testing.assert_array_equal(found, expected)
        assert not np.array_equal(found, replay.result)


def test_a_changed_stream_counts(make_program, tokens):
    program = make_program("plain")
    replay = Replay(program.graph, program.weights, sequence_inputs(program, [tokens]))
    first, later = replay.cuts[0], replay.cuts[-1]
    assert replay.stream(first).shape == (len(tokens), program.spec.hidden_size)
    assert not np.array_equal(replay.run(later, stream=replay.stream(first)), replay.result)


def test_unknown_names_are_refused(make_program, tokens):
    program = make_program("plain")
    replay = Replay(program.graph, program.weights, sequence_inputs(program, [tokens]))
    with pytest.raises(TransformError, match=r"reads the weight 'nothing'"):
        replay.cut_before("nothing")
    with pytest.raises(TransformError, match=r"no cut at 'nothing'"):
        replay.cut_after("nothing")
