"""A tiny real model in float32 with room for a text, and an engine on it that checks its cells."""

import json
import shutil
from pathlib import Path

import pytest

import edgesdk

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
CONTEXT = 1536


@pytest.fixture(scope="session")
def long_bundle(converted_once, shared_folder):
    """The tiny checkpoint with a longer context than it was made for, which nothing here minds."""
    source = shared_folder / "long-llama"
    if not source.exists():
        shutil.copytree(TINY, source)
        config = json.loads((source / "config.json").read_text())
        config["max_position_embeddings"] = CONTEXT
        (source / "config.json").write_text(json.dumps(config))
    return converted_once(source, targets=("litert",), recipes=("f32",), context=CONTEXT, prove=False)


@pytest.fixture(scope="session")
def model(long_bundle):
    with edgesdk.load(long_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture
def engine(model):
    with edgesdk.Engine(model, token_budget=128, prefix_cache_mb=0, check_steps=True) as running:
        yield running
        running.check()
        assert running.metrics.cells_used == 0
