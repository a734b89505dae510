"""Sums by halves, on all cores, are those of the whole."""

import numpy as np
import pytest

from edgesdk_converters.quantise.quantised_weights import squares
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.sum_by_halves import sum_by_halves


@pytest.mark.parametrize("shape", [(1, 8), (7, 33), (96, 576), (1000, 1001), (2048, 512), (1536, 576)])
@pytest.mark.parametrize("threads", [False, True])
def test_parts_add_up_to_the_last_bit(shape, threads):
    values = np.random.default_rng(0).standard_normal(shape)
    seen = []

    def work(start, stop):
        seen.append((start, stop))
        return float(values[start:stop].sum()), float(stop - start)

    found = sum_by_halves((0, shape[0]), shape[1], 1 << 10, work, threads=threads)
    assert found == (float(values.sum()), shape[0])
    assert sum(stop - start for start, stop in seen) == shape[0]


def test_errors_of_threads_are_raised():
    def work(start, stop):
        raise ValueError(start)

    with pytest.raises(ValueError, match="0"):
        sum_by_halves((0, 64), 64, 64, work, threads=True)


@pytest.mark.parametrize("scheme", [Scheme(8, None, "round"), Scheme(4, 32, "round")])
def test_squares_are_those_of_the_whole(scheme):
    weight = np.random.default_rng(1).standard_normal((1024, 512), np.float32)
    stored = round_to_nearest(weight, scheme)
    kept = stored.dequantise()
    lost = float(np.square(kept - weight, dtype=np.float64).sum())
    whole = float(np.square(weight, dtype=np.float64).sum())
    assert squares(weight, stored) == squares(weight, kept) == (lost, whole)
