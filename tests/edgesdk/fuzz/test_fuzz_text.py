from random import Random

import pytest

from benchmarks.fuzz_targets.text import TARGETS

pytest.importorskip("llguidance")
pytest.importorskip("jsonschema")


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_errors_come_out(name):
    for seed in range(200):
        TARGETS[name](Random(seed))
