"""`--target coreml` from checkpoint to answer: converted, proven, verified, run when it is named."""

from pathlib import Path

import numpy as np
import pytest

import edgesdk
from converters.convert import ConvertOptions, convert
from converters.targets import find_targets
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import DeviceError

TINY = Path(__file__).parents[4] / "tests" / "data" / "tiny"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    options = ConvertOptions(targets=("litert", "coreml"), recipes=("w8",), context=64)
    return convert(str(TINY / "qwen3"), tmp_path_factory.mktemp("bundles") / "qwen3", options)


def test_it_is_proven_by_the_interpreter(bundle):
    variant = open_bundle(bundle).variant("coreml-w8")
    assert variant.format == "coreml"
    assert variant.parity is not None
    assert variant.parity.backend == "coreml-interpreter"
    assert variant.parity.positions > 200
    # No activation is quantised, so it comes closer to the reference than LiteRT does.
    assert variant.parity.kl_nats < open_bundle(bundle).variant("litert-w8").parity.kl_nats


def test_it_runs_when_it_is_named(bundle):
    with edgesdk.load(bundle, backend="coreml-interpreter", strict=True) as model:
        assert model.receipt.backend == "coreml-interpreter"
        assert model.receipt.provider == "interpreter"
        assert model.receipt.notes
        found = model.score(np.arange(3, 20, dtype=np.int32))
    with edgesdk.load(bundle, backend="litert", strict=True) as model:
        expected = model.score(np.arange(3, 20, dtype=np.int32))
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_it_is_never_chosen_unasked(bundle):
    with edgesdk.load(bundle) as model:
        assert model.receipt.backend != "coreml-interpreter"
    with pytest.raises(DeviceError, match="nothing can run"):
        edgesdk.load(bundle, variant="coreml-w8")


def test_a_bundle_without_the_weights_is_refused(bundle, tmp_path):
    import shutil

    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    next(copy.rglob("weight.bin")).unlink()
    with pytest.raises(edgesdk.EdgeError, match=r"weight\.bin"):
        edgesdk.load(copy, backend="coreml-interpreter")


@pytest.mark.parametrize(("context", "cells"), [(100, {100}), (512, {512}), (2048, {512, 2048})])
def test_sizes_are_few_and_reach_the_context(context, cells):
    (target,) = find_targets(["coreml"])
    steps = target.steps(context)
    assert {(step.tokens, step.cells) for step in steps} == {(t, s) for t in (1, 8, 128) for s in cells}
    assert steps[0].tokens == 1
