import dataclasses
import math
import re

import pytest

from edgesdk.bundle.manifest import ParityReport
from edgesdk.evaluation.gate import misses_gate

SOUND = ParityReport("x", 9, 10.2, 10.0, 1.02, 0.01, 0.95, 1.05, 0.9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"perplexity_ratio": 1.05}, None),
        ({"perplexity_ratio": 1.0501}, r"perplexity ratio 1\.050 is above the recipe's 1\.050"),
        ({"perplexity_ratio": math.nan}, "perplexity ratio nan"),
        ({"perplexity_ratio": math.inf}, "perplexity ratio inf"),
        ({"top1_agreement": 0.89}, r"top-1 agreement 0\.890 is below the recipe's 0\.900"),
    ],
)
def test_what_misses(changes, message):
    miss = misses_gate(dataclasses.replace(SOUND, **changes), SOUND)
    if message is None:
        assert miss is None
    else:
        assert re.search(message, miss)
