"""Opens the NPU bundle on the CPU and on the simulator, and compares what they say."""

import numpy as np
import pytest

from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.bundle.reader import open_bundle
from edgesdk.kv.step_model import StepModel

TOKENS = np.array([5, 17, 211, 40, 99, 3, 121, 64, 8], np.int32)


@pytest.fixture
def bundle(npu_bundle):
    return open_bundle(npu_bundle)


@pytest.fixture
def greedy():
    """Follows a backend's own first choices one token at a time: tokens and the logits of each."""

    def run(backend, variant, spec, count):
        sequence = StepModel(backend, spec, variant.context).new_sequence()
        for token in TOKENS:
            logits = sequence.extend(np.array([token], np.int32)).copy()
        rows, chosen = [], []
        for _ in range(count):
            rows.append(logits)
            chosen.append(int(logits.argmax()))
            logits = sequence.extend(np.array(chosen[-1:], np.int32)).copy()
        return chosen, np.array(rows)

    return run


@pytest.fixture
def cpu_greedy(bundle, greedy):
    variant = bundle.variant("onnx-npu-w8")
    backend = OnnxStepBackend(bundle, variant, threads=1)
    return greedy(backend, variant, bundle.manifest.decoder, 16)


@pytest.fixture
def check_equal():
    """Equal tokens up to the first near-tie: there, both choices lie within `tie` of each other."""

    def check(expected, found, tie=0.05):
        for at, (mine, theirs) in enumerate(zip(expected[0], found[0], strict=True)):
            if mine != theirs:
                row = expected[1][at]
                assert row[mine] - row[theirs] < tie, f"token {at}: {mine}, found {theirs}"
                return at
            assert np.abs(expected[1][at] - found[1][at]).max() < 0.1
        return len(expected[0])

    return check
