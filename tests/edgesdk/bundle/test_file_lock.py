import subprocess
import sys
import threading

import pytest

from edgesdk.bundle import file_lock
from edgesdk.bundle.file_lock import FileLock

HOLD = """
import sys, time
from pathlib import Path
from edgesdk.bundle.file_lock import FileLock
with FileLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.lock"


@pytest.fixture
def holder(path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_file_is_there_only_meanwhile(path):
    with FileLock(path):
        assert path.is_file()
    assert not path.exists()


def test_another_process_is_waited_for_and_may_be_killed(path, holder):
    def waiting():
        holder.kill()

    with FileLock(path, waiting):
        holder.wait()
    assert not path.exists()


def test_who_does_not_want_to_wait_says_so(path, holder):
    class BusyError(Exception):
        pass

    def refuse():
        raise BusyError

    with pytest.raises(BusyError), FileLock(path, refuse):
        pass
    assert path.exists()
    assert holder.poll() is None


def test_one_at_a_time_whoever_removes_the_file(path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(20):
            with FileLock(path):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not path.exists()


def test_a_file_system_without_locks_holds_nobody_up(path, monkeypatch):
    monkeypatch.setattr(file_lock, "try_lock", lambda handle: None)
    with FileLock(path), FileLock(path):
        pass


def test_a_link_is_not_followed(path, tmp_path):
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), FileLock(path):  # noqa: PT011 - each system says it in its own words
        pass
    assert not (tmp_path / "precious").exists()
