"""An engine, on a tiny real model with room for a text, that checks its cells."""

import pytest

import edgesdk


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
