"""A round each of benchmarks/sweep_kills.py, which looks at everything itself."""

import importlib.util
import random
import sys

import pytest

from benchmarks import sweep_kills


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes by their command lines")
@pytest.mark.parametrize(("on", "seed"), [("processes", 1), ("dask", 2)])
def test_a_sweep_that_is_killed_goes_on(on, seed, tmp_path):
    if on == "dask" and importlib.util.find_spec("distributed") is None:
        pytest.skip("needs the extra 'fleet'")
    chance = random.Random(seed)
    found = sweep_kills.run(tmp_path, on, rounds=1, kills=2, chance=chance, text=sweep_kills.SMALL)
    assert sum(found["killed"].values()) >= 1
    assert found["cells"] == 8
