"""Peak memory, each time in a process of its own: what a test run has freed stays resident in it."""

import json
import subprocess
import sys

import numpy as np
import pytest

SIZE = 100 << 20
NOISE = 1 << 20
"""Linux counts pages for each core apart and adds them up now and then."""

SCRIPT = """
import json, numpy
from edgesdk.devices.process_memory import forget_peak, peak_rss_bytes
before = peak_rss_bytes()
block = numpy.ones(SIZE, numpy.uint8)
high = peak_rss_bytes()
del block
kept = peak_rss_bytes()
forgotten = forget_peak()
low = peak_rss_bytes()
again = numpy.ones(SIZE, numpy.uint8)
print(json.dumps([before, high, kept, forgotten, low, peak_rss_bytes()]))
"""


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_the_peak_stays_until_it_is_forgotten():
    before, high, kept, forgotten, low, again = run(SCRIPT.replace("SIZE", str(SIZE)))
    assert before + SIZE - NOISE < high < before + 2 * SIZE
    assert kept >= high - NOISE
    if not forgotten:
        pytest.skip("this system cannot begin anew")
    assert low < high - SIZE // 2
    assert again > low + SIZE // 2


@pytest.mark.skipif(sys.platform != "linux", reason="others ask getrusage")
def test_the_parent_does_not_count():
    """A child of a large process starts small."""
    block = np.ones(3 * SIZE, np.uint8)
    child = run("from edgesdk.devices.process_memory import peak_rss_bytes; print(peak_rss_bytes())")
    assert 0 < child < block.nbytes
