"""Sequences over a package's own states: pieces, padding, forgetting, refusals."""

import numpy as np
import pytest

from edgesdk.backends.coreml.interpreter import MilInterpreter
from edgesdk.backends.coreml.ml_model import MlModelPredictor
from edgesdk.backends.coreml.state_backend import CoreMLStateModel
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import CapacityError, DeviceError

STEPS = (StepShape(1, 24, 1, "step_1"), StepShape(4, 24, 4, "step_4"), StepShape(16, 24, 2, "step_16"))


@pytest.fixture
def interpreter(write_package):
    return MilInterpreter(write_package(STEPS, "state"))


@pytest.fixture
def model(interpreter, spec):
    return CoreMLStateModel(interpreter, spec, STEPS, 24)


@pytest.fixture
def tokens(spec):
    return np.random.default_rng(4).integers(0, spec.vocab_size, 24).astype(np.int32)


def test_pieces_of_any_size_give_the_same_logits(model, tokens):
    expected = model.new_sequence().score(tokens)
    for sizes in ((24,), (1,) * 24, (3, 1, 9, 11), (17, 7), (5, 19)):
        sequence, done = model.new_sequence(), 0
        for size in sizes:
            logits = sequence.extend(tokens[done : done + size])
            done += size
            np.testing.assert_allclose(logits, expected[done - 1], atol=0.02 * np.abs(expected).max())
        assert sequence.length == 24


def test_steps_never_write_past_the_last_cell(model, tokens):
    """From cell 22 on, only steps of one token fit, whatever is left to run."""
    sequence = model.new_sequence()
    sequence.extend(tokens[:22])
    shapes = [shape.tokens for shape, _, _ in sequence._pieces(tokens[22:], STEPS)]
    assert shapes == [1, 1]
    assert np.isfinite(sequence.score(tokens[22:])).all()


def test_what_was_forgotten_does_not_count(model, tokens):
    expected = model.new_sequence().extend(tokens[:9])
    sequence = model.new_sequence()
    sequence.extend(tokens[:5])
    sequence.extend(tokens[::-1][:13])
    sequence.truncate(5)
    np.testing.assert_allclose(sequence.extend(tokens[5:9]), expected, atol=0.02 * np.abs(expected).max())
    with pytest.raises(CapacityError, match="cannot shorten 9 tokens to 10"):
        sequence.truncate(10)


def test_states_last_between_calls_and_belong_to_one_sequence(model, tokens):
    first, second = model.new_sequence(), model.new_sequence()
    first.extend(tokens[:6])
    second.extend(tokens[6:12])
    one, other = first.extend(tokens[20:21]).copy(), second.extend(tokens[20:21]).copy()
    assert not np.array_equal(one, other)
    alone = model.new_sequence()
    alone.extend(tokens[:6])
    np.testing.assert_array_equal(alone.extend(tokens[20:21]), one)


def test_what_does_not_fit_changes_nothing(model, tokens):
    sequence = model.new_sequence()
    sequence.extend(tokens[:20])
    before = sequence.length
    with pytest.raises(CapacityError, match="do not fit the context of 24"):
        sequence.extend(tokens[:5])
    with pytest.raises(CapacityError, match="found none"):
        sequence.extend(tokens[:0])
    with pytest.raises(DeviceError, match="outside the vocabulary"):
        sequence.extend(np.array([64], np.int32))
    assert sequence.length == before


def test_closed_models_and_sequences_say_so(model, tokens):
    sequence = model.new_sequence()
    sequence.close()
    with pytest.raises(DeviceError, match="sequence was closed"):
        sequence.extend(tokens[:1])
    model.close()
    with pytest.raises(DeviceError, match="model is closed"):
        model.new_sequence()


def test_a_package_of_another_kind_is_refused(other_mixers, interpreter, package, spec, steps):
    with pytest.raises(DeviceError, match="its manifest says"):
        CoreMLStateModel(MilInterpreter(package), spec, steps, 24)
    with pytest.raises(DeviceError, match="its manifest says"):
        CoreMLStateModel(interpreter, other_mixers(spec, heads=8, kv_heads=4), STEPS, 24)
    with pytest.raises(DeviceError, match="enough for them"):
        CoreMLStateModel(interpreter, spec, STEPS, 25)
    with pytest.raises(DeviceError, match="a size of one token"):
        CoreMLStateModel(interpreter, spec, STEPS[1:], 24)


def test_core_ml_itself_needs_a_mac(package):
    import platform

    if platform.system() == "Darwin":
        pytest.skip("this is one")
    with pytest.raises(DeviceError, match="Core ML runs on macOS"):
        MlModelPredictor(package, "ALL")
