import subprocess
import sys

import numpy as np
import pytest

from edgesdk.evaluation.memory import peak_rss_bytes


def test_it_grows_with_what_is_used():
    before = peak_rss_bytes()
    if before is None:
        pytest.skip("the system does not say")
    block = np.ones(before // 8 + (40 << 17))  # float64: the peak of before and 40 MB
    assert peak_rss_bytes() - before > 30 << 20
    del block


@pytest.mark.skipif(sys.platform != "linux", reason="others ask getrusage")
def test_the_parent_does_not_count():
    """A child of a large process starts small."""
    block = np.ones(60 << 17)
    code = "from edgesdk.evaluation.memory import peak_rss_bytes; print(peak_rss_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < peak_rss_bytes()
    assert int(done.stdout) < block.nbytes * 2
