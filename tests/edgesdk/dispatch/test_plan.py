"""One variant takes over from another where the same numbers stand behind both, whatever their names."""

from dataclasses import replace

import pytest

from edgesdk.backends.registry import find_backends
from edgesdk.bundle.reader import Bundle
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.join_candidates import join_candidates
from edgesdk.dispatch.plan import may_take_over, same_results
from edgesdk.engine.snapshot_key import snapshot_key
from edgesdk.errors import DeviceError


def changed(bundle, name, **changes):
    """The bundle with one variant's record changed."""
    variants = tuple(replace(v, **changes) if v.name == name else v for v in bundle.manifest.variants)
    return Bundle(bundle.path, replace(bundle.manifest, variants=variants))


def pair(bundle):
    """LiteRT's candidate and ONNX Runtime's, both with steps."""
    found = {c.backend.name: c for c in list_candidates(bundle, find_backends("auto"))}
    return found["litert"], found["onnxruntime-step"]


def test_targets_that_store_the_same_may_take_over_and_share_snapshots(bundle):
    litert, step = pair(bundle)
    assert litert.variant.numbers == step.variant.numbers
    assert same_results(litert.variant, step.variant)
    assert may_take_over(step, litert)
    assert snapshot_key(bundle, litert.variant.name) == snapshot_key(bundle, step.variant.name)


@pytest.mark.parametrize("changes", [{"numbers": "1" * 64}, {"recipe": "w4"}, {"cell_type": "int8"}])
def test_nothing_else_takes_over(bundle, changes):
    litert, step = pair(changed(bundle, "onnx-step-f32", **changes))
    assert not same_results(litert.variant, step.variant)
    assert not may_take_over(step, litert)
    assert not may_take_over(litert, step)


def test_snapshots_follow_the_numbers_not_the_names(bundle):
    other = changed(bundle, "onnx-step-f32", numbers="1" * 64)
    assert snapshot_key(other, "onnx-step-f32") != snapshot_key(bundle, "onnx-step-f32")
    renamed = changed(bundle, "onnx-step-f32", recipe="mine")
    assert snapshot_key(renamed, "onnx-step-f32") == snapshot_key(bundle, "onnx-step-f32")


@pytest.mark.parametrize("same", [True, False])
def test_cells_never_go_on_with_other_numbers(bundle, tokens, monkeypatch, same):
    """A step that fails is run again by a successor with the same numbers, and by no other."""
    if not same:
        bundle = changed(bundle, "onnx-step-f32", numbers="1" * 64)
    litert, step = pair(bundle)
    joined = join_candidates(bundle, litert, litert, 1, [litert, step])
    try:
        sequence = joined.model.new_sequence()
        sequence.extend(tokens[:8])

        def lost(*arguments):
            raise DeviceError("device lost")

        monkeypatch.setattr(type(joined.decode.step_backend), "run", lost)
        if same:
            assert len(sequence.extend(tokens[8:9])) == bundle.manifest.decoder.vocab_size
        else:
            with pytest.raises(DeviceError, match="device lost"):
                sequence.extend(tokens[8:9])
    finally:
        joined.model.close()
