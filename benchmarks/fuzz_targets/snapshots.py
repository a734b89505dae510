"""Saved sequences that were damaged: the same tokens come back, or the file is refused."""

from __future__ import annotations

import random
from functools import cache

import numpy as np

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import StepEntry, StepRunner
from fuzz_targets.damage import damaged, scratch

SPEC = UniformDecoder("llama", 50, 8, 8, 2, 1, 4, 64, (LayerSpec(None, None),) * 2, 1e-5, "silu", 1.0).spec()
TOKENS = np.arange(12, dtype=np.int32)


@cache
def _runner() -> StepRunner:
    shapes = tuple(StepShape(T, S, T, f"t{T}_s{S}") for T in (1, 16) for S in (16, 64))
    return StepRunner(FakeStepBackend(SPEC, shapes), SPEC, 64)


@cache
def _whole() -> bytes:
    runner = _runner()
    cells = runner.new_list()
    runner.run([StepEntry(cells, TOKENS)])
    path = scratch() / "whole.snapshot"
    save_snapshot(path, runner, cells, "a model")
    cells.close()
    return path.read_bytes()


def snapshot(draw: random.Random) -> None:
    """A digest guards it, so what loads is what was saved."""
    path = scratch() / "a.snapshot"
    path.unlink(missing_ok=True)
    path.write_bytes(damaged(draw, _whole()))
    cells = load_snapshot(path, _runner(), SPEC, "a model")
    try:
        assert np.array_equal(cells.tokens, TOKENS)
    finally:
        cells.close()


TARGETS = {"snapshot": snapshot}
