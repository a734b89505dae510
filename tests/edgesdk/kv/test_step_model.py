import numpy as np

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.kv.step_model import StepModel


def test_sequences_share_the_backend_and_the_model_closes_it(spec, shapes, tokens):
    backend = FakeStepBackend(spec(), shapes())
    model = StepModel(backend, spec(), 64)
    one, other = model.new_sequence(), model.new_sequence()
    one.extend(tokens[:5])
    assert np.array_equal(other.extend(tokens[:9]), one.extend(tokens[5:9]))
    assert model.backend is backend
    model.close()
    assert backend.closed
