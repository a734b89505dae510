import subprocess
import sys

import numpy as np
import pytest

from edgesdk.devices.process_memory import forget_peak, peak_rss_bytes

SIZE = 100 << 20
NOISE = 1 << 20
"""Linux counts pages for each core apart and adds them up now and then."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_the_peak_stays_until_it_is_forgotten():
    before = peak_rss_bytes()
    block = np.ones(SIZE, np.uint8)
    high = peak_rss_bytes()
    assert high >= before - NOISE
    del block
    assert peak_rss_bytes() >= high - NOISE
    if not forget_peak():
        pytest.skip("this system cannot begin anew")
    low = peak_rss_bytes()
    assert low < high - SIZE // 2
    again = np.ones(SIZE, np.uint8)
    assert peak_rss_bytes() > low + SIZE // 2
    assert again[-1] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="others ask getrusage")
def test_the_parent_does_not_count():
    """A child of a large process starts small."""
    block = np.ones(60 << 17)
    code = "from edgesdk.devices.process_memory import peak_rss_bytes; print(peak_rss_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < peak_rss_bytes()
    assert int(done.stdout) < block.nbytes * 2
