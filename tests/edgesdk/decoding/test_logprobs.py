import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.decoding.logprobs import logprobs_of

LOGITS = st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=30).map(
    lambda x: np.array(x, np.float32)
)


@settings(deadline=None)
@given(logits=LOGITS, count=st.integers(0, 40), data=st.data())
def test_they_are_those_of_a_log_softmax(logits, count, data):
    token = data.draw(st.integers(0, len(logits) - 1))
    wide = logits.astype(np.float64)
    expected = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    logprob, top = logprobs_of(logits, token, count)
    assert abs(logprob - expected[token]) < 1e-4
    assert [i for i, _ in top] == np.argsort(-logits, kind="stable")[:count].tolist()
    assert all(abs(value - expected[i]) < 1e-4 for i, value in top)


def test_a_sure_thing():
    logits = np.array([0, 1e30, 0], np.float32)
    assert logprobs_of(logits, 1, 1) == (0.0, ((1, 0.0),))
