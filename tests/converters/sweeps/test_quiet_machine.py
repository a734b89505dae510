import subprocess
import sys
import threading
import time

import pytest

from edgesdk_converters.sweeps.quiet_machine import on_machine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="jobs take turns there")


def test_ordinary_jobs_share_a_machine(tmp_path):
    with on_machine(False, tmp_path), on_machine(False, tmp_path):
        pass


def test_one_that_is_alone_waits_for_others_and_later_ones_for_it(tmp_path):
    order = []

    def job(name, alone):
        with on_machine(alone, tmp_path):
            order.append(name)

    with on_machine(False, tmp_path):
        alone = threading.Thread(target=job, args=("alone", True))
        alone.start()
        time.sleep(0.3)
        later = threading.Thread(target=job, args=("later", False))
        later.start()
        time.sleep(0.3)
        assert order == []
    alone.join(10)
    later.join(10)
    assert order == ["alone", "later"]


def test_a_killed_job_frees_the_machine(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from edgesdk_converters.sweeps.quiet_machine import on_machine\n"
        "with on_machine(True, Path(sys.argv[1])): print('held', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout.readline().strip() == b"held"
    child.kill()
    child.wait()
    child.stdout.close()
    with on_machine(True, tmp_path):
        pass
