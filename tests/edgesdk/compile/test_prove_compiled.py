"""A compiled variant is compared with its source where it runs; elsewhere the manifest says so."""

import dataclasses

import numpy as np
import pytest

from edgesdk.bundle.manifest import Compatibility, ParityReport
from edgesdk.bundle.reader import open_bundle
from edgesdk.compile import prove_compiled as module
from edgesdk.compile.prove_compiled import prove_compiled
from edgesdk.errors import DeviceError, MissingExtra


@pytest.fixture
def source(npu_bundle):
    return open_bundle(npu_bundle).manifest.variants[0]


@pytest.fixture
def made(source):
    return dataclasses.replace(
        source, name="made", compatibility=Compatibility("QNN", "sm8650", "c 1", source.name)
    )


@pytest.fixture
def answers(monkeypatch, source):
    """Has the processor say what the CPU says, changed by a function."""
    score = module._score
    monkeypatch.setattr(module, "is_simulated", lambda: True)

    def change(function):
        def scored(folder, variant, backend, positions):
            tokens, rows = score(folder, source.name, module.SOURCE_BACKEND, positions)
            return tokens, function(rows) if backend == module.COMPILED_BACKEND else rows

        monkeypatch.setattr(module, "_score", scored)

    return change


def test_agreement_is_recorded(npu_bundle, source, made, answers):
    answers(lambda rows: rows + 1e-3)
    found = prove_compiled(npu_bundle, source, made, 3)
    assert found.parity_skipped is None
    assert (found.parity.positions, found.parity.top1_agreement) == (3, 1.0)
    assert found.parity.perplexity_ratio == pytest.approx(1, abs=1e-3)
    assert found.parity.against == f"{source.name} on the CPU, 3 positions, sm8650 simulated"
    assert found.parity.backend == "onnxruntime-qnn-compiled"


def test_the_device_must_reach_what_its_source_had_to(npu_bundle, source, made, answers):
    answers(lambda rows: rows)
    gated = ParityReport("b", 9, 2.0, 2.0, 1.0, 0.0, 1.0, 1.03, 0.93)
    found = prove_compiled(npu_bundle, dataclasses.replace(source, parity=gated), made, 1).parity
    assert (found.gate_perplexity_ratio, found.gate_top1_agreement) == (1.03, 0.93)


def test_a_broken_one_is_refused(npu_bundle, source, made, answers):
    answers(lambda rows: -rows)
    with pytest.raises(DeviceError, match=f"made does not say what {source.name} says: over 4 positions"):
        prove_compiled(npu_bundle, source, made, 4)
    answers(lambda rows: np.full_like(rows, np.nan))
    with pytest.raises(DeviceError, match="made does not say"):
        prove_compiled(npu_bundle, source, made, 4)


@pytest.mark.parametrize(
    ("positions", "simulated", "error", "reason"),
    [
        (0, True, None, "no positions were asked for"),
        (4, False, None, "there is no simulator of its processor"),
        (4, True, MissingExtra("onnxruntime-qnn", "qnn"), "running it failed: "),
        (4, True, DeviceError("the driver is asleep"), "running it failed: the driver is asleep"),
    ],
)
def test_what_cannot_run_says_so(npu_bundle, source, made, monkeypatch, positions, simulated, error, reason):
    def refuse(*_):
        raise error

    monkeypatch.setattr(module, "is_simulated", lambda: simulated)
    monkeypatch.setattr(module, "_score", refuse)
    found = prove_compiled(npu_bundle, source, made, positions)
    assert found.parity is None
    assert found.parity_skipped.startswith(
        f"it should say what {source.name} says, which nothing has verified"
    )
    assert reason in found.parity_skipped
