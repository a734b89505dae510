import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.reader import open_bundle


@pytest.fixture
def fake_model(fake_runtime):
    """A model whose logits are known: see `expected`."""
    from edgesdk.load_model import load

    with load(fake_runtime()) as model:
        yield model


@pytest.fixture
def expected(fake_model):
    """The logits that the model must give for a text, computed without masks or cells."""
    manifest = open_bundle(fake_model.bundle.path).manifest
    oracle = FakeStepBackend(manifest.decoder, manifest.variants[0].steps)

    def logits(tokens):
        return oracle.expected_logits(list(tokens))

    return logits


@pytest.fixture
def texts():
    rng = np.random.default_rng(3)
    return [rng.integers(2, 300, n).astype(np.int32) for n in (20, 2, 71)]
