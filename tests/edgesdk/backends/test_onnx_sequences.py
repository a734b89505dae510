"""One suite for every way to run the ONNX variants: theory promises that they are all equal."""

import numpy as np
import pytest

from edgesdk.backends.onnxruntime_genai import open_genai
from edgesdk.backends.onnxruntime_resident import open_resident
from edgesdk.backends.onnxruntime_step import open_step
from edgesdk.backends.opened import OpenRequest
from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.step_model import StepModel

TOLERANCE = 2e-5  # of logits of about 1, float32 weights


@pytest.fixture(params=["resident", "genai", "step"])
def model(request, onnx_bundle):
    bundle = onnx_bundle.bundle
    variant = bundle.variant("step" if request.param == "step" else "resident")
    ask = OpenRequest(bundle, variant, 1)
    if request.param == "resident":
        yield (found := open_resident(ask).model)
    elif request.param == "genai":
        pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")
        yield (found := open_genai(ask).model)
    else:
        yield (found := StepModel(open_step(ask).model, bundle.manifest.decoder, variant.context))
    found.close()


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_score_is_the_evaluators(model, onnx_bundle):
    sequence = model.new_sequence()
    near(sequence.score(onnx_bundle.tokens), onnx_bundle.logits)
    assert (sequence.length, sequence.context) == (40, 48)


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [17, 1, 1, 21], [5, 30, 5]])
def test_pieces_give_what_the_whole_gives(model, onnx_bundle, sizes):
    sequence = model.new_sequence()
    start = 0
    for size in sizes:
        near(sequence.extend(onnx_bundle.tokens[start : start + size]), onnx_bundle.logits[start + size - 1])
        start += size


def test_a_prompt_may_end_with_the_end_token(model, onnx_bundle):
    near(model.new_sequence().extend(onnx_bundle.tokens[:20]), onnx_bundle.logits[19])


def test_forgotten_tokens_leave_no_trace(model, onnx_bundle):
    sequence = model.new_sequence()
    other = (onnx_bundle.tokens + 1) % 64
    sequence.extend(onnx_bundle.tokens[:10])
    sequence.extend(other[10:35])
    sequence.truncate(10)
    near(sequence.score(onnx_bundle.tokens[10:]), onnx_bundle.logits[10:])
    sequence.truncate(0)
    assert sequence.length == 0
    near(sequence.score(onnx_bundle.tokens), onnx_bundle.logits)


def test_score_after_extend_and_back(model, onnx_bundle):
    sequence = model.new_sequence()
    near(sequence.extend(onnx_bundle.tokens[:7]), onnx_bundle.logits[6])
    near(sequence.score(onnx_bundle.tokens[7:30]), onnx_bundle.logits[7:30])
    near(sequence.extend(onnx_bundle.tokens[30:31]), onnx_bundle.logits[30])


def test_sequences_do_not_see_each_other(model, onnx_bundle):
    one, two = model.new_sequence(), model.new_sequence()
    one.extend(onnx_bundle.tokens[:9])
    two.extend((onnx_bundle.tokens[:20] + 3) % 64)
    near(one.extend(onnx_bundle.tokens[9:12]), onnx_bundle.logits[11])
    two.close()
    near(one.extend(onnx_bundle.tokens[12:13]), onnx_bundle.logits[12])


def test_the_context_can_be_filled_and_not_more(model, onnx_bundle):
    sequence = model.new_sequence()
    sequence.extend(onnx_bundle.tokens)
    with pytest.raises(CapacityError, match="9 tokens after 40 do not fit the context of 48"):
        sequence.extend(onnx_bundle.tokens[:9])
    assert sequence.length == 40
    sequence.extend(onnx_bundle.tokens[:8])
    assert sequence.length == 48


def test_bad_requests_are_one_line(model, onnx_bundle):
    sequence = model.new_sequence()
    with pytest.raises(CapacityError, match="at least one token"):
        sequence.extend(np.zeros(0, np.int32))
    sequence.extend(onnx_bundle.tokens[:3])
    for length in (4, -1):
        with pytest.raises(CapacityError, match=f"cannot shorten 3 tokens to {length}"):
            sequence.truncate(length)


def test_tokens_outside_the_vocabulary_are_refused(model, onnx_bundle):
    sequence = model.new_sequence()
    with pytest.raises(DeviceError):
        sequence.extend(np.array([64], np.int32))


def test_a_prompt_can_be_left_between_two_pieces(model, onnx_bundle, monkeypatch):
    for name in ("onnxruntime_resident", "onnxruntime_genai"):
        monkeypatch.setattr(f"edgesdk.backends.{name}.CHUNK_TOKENS", 8)
    asked = []
    sequence = model.new_sequence()
    near(sequence.extend(onnx_bundle.tokens, lambda: asked.append(True)), onnx_bundle.logits[-1])
    assert asked
    sequence.truncate(0)

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sequence.extend(onnx_bundle.tokens, stop)
    assert sequence.length < 40
    sequence.truncate(0)
    near(sequence.extend(onnx_bundle.tokens), onnx_bundle.logits[-1])
