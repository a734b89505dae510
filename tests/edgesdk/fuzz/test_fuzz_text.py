from contextlib import suppress
from random import Random

import pytest

from benchmarks.fuzz_targets.text import TARGETS
from edgesdk.errors import EdgeError

pytest.importorskip("llguidance")
pytest.importorskip("jsonschema")


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_errors_come_out(name):
    for seed in range(200):
        with suppress(EdgeError):
            TARGETS[name](Random(seed))
