"""Copies of packed weights: made beside what runs, whole or not at all, and never in the way of an end."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from edgesdk.backends.litert import keep_packed as keeping
from edgesdk.backends.litert.keep_packed import give_up, keep_packed, wait_for, wait_for_all
from edgesdk.backends.litert.packing_memory import open_packing_memory
from edgesdk.bundle.drafts import sweep_drafts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such memory")

CONTENT = os.urandom(3 * keeping._PIECE_BYTES + 12345)
SLOW = """
import sys, time
from pathlib import Path
from edgesdk.backends.litert import keep_packed
from edgesdk.backends.litert.packing_memory import open_packing_memory

memory = open_packing_memory(1)
memory.path.write_bytes(bytes(10_000_000))
if sys.argv[2] == "pieces":
    keep_packed._PIECE_BYTES = 1
    place = lambda path, digest: None
else:
    place = lambda path, digest: time.sleep(600)
keep_packed.keep_packed(Path(sys.argv[1]) / "name", memory, place)
memory.close()
print("loaded", flush=True)
"""


@pytest.fixture
def memory():
    with contents(CONTENT) as found:
        yield found


@contextmanager
def contents(content):
    found = open_packing_memory(len(content))
    found.path.write_bytes(content)
    yield found
    found.close()


def into(folder):
    """Puts a file where tests look for it, under its digest."""
    return lambda path, digest: os.replace(path, folder / digest)


def begin(folder, what):
    command = [sys.executable, "-c", SLOW, str(folder), what]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "loaded\n"
    return child


def test_a_copy_is_whole_though_the_memory_was_closed_meanwhile(tmp_path, memory):
    keep_packed(tmp_path / "name", memory, into(tmp_path))
    memory.close()
    wait_for(tmp_path / "name")
    (found,) = tmp_path.iterdir()
    assert found.name == hashlib.sha256(CONTENT).hexdigest()
    assert found.read_bytes() == CONTENT
    wait_for(tmp_path / "name")  # there is none any more


def test_the_caller_goes_on_before_the_copy_is_made(tmp_path, memory):
    may_end = threading.Event()
    placed = []
    keep_packed(tmp_path / "name", memory, lambda path, digest: may_end.wait(60) and placed.append(path))
    keep_packed(tmp_path / "name", memory, into(tmp_path))  # is on its way already
    assert not placed
    may_end.set()
    wait_for_all()
    assert len(placed) == 1
    assert not list(tmp_path.iterdir())


def test_memory_that_changes_is_not_kept(tmp_path, memory, monkeypatch):
    may_write = threading.Event()
    write = keeping._Copy._write
    monkeypatch.setattr(keeping._Copy, "_write", lambda copy: may_write.wait(60) and write(copy))
    keep_packed(tmp_path / "name", memory, into(tmp_path))
    memory.path.write_bytes(CONTENT[::-1])
    may_write.set()
    wait_for_all()
    assert not list(tmp_path.iterdir())


def test_what_is_given_up_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_PIECE_BYTES", 1)
    with contents(bytes(10_000_000)) as memory:
        keep_packed(tmp_path / "name", memory, into(tmp_path))
    began = time.monotonic()
    give_up([tmp_path / "name", tmp_path / "other"])
    assert time.monotonic() - began < 10
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_without_room_is_known_at_once(tmp_path, memory):
    mount = ["mount", "-t", "tmpfs", "-o", f"size={len(CONTENT) - 8192}", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed")
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            keep_packed(tmp_path / "name", memory, into(tmp_path))
        assert not list(tmp_path.iterdir())
        with contents(CONTENT[: len(CONTENT) // 2]) as half:
            keep_packed(tmp_path / "name", half, into(tmp_path))
            (tmp_path / "other").write_bytes(CONTENT[: len(CONTENT) // 4])  # takes nothing of its room
            wait_for_all()
            assert len(list(tmp_path.iterdir())) == 2
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_written_is_known_at_once(tmp_path, memory):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        keep_packed(tmp_path / "file" / "name", memory, into(tmp_path))
    keep_packed(tmp_path / "name", memory, into(tmp_path))  # nothing of the first is in its way
    wait_for_all()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_process_that_is_killed_leaves_a_draft_that_the_next_one_removes(tmp_path):
    child = begin(tmp_path, "place")
    child.kill()
    child.communicate()
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial")
    sweep_drafts(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interruption_ends_the_wait_in_order(tmp_path):
    child = begin(tmp_path, "pieces")
    time.sleep(0.5)  # it is at its end by now, and waits
    assert child.poll() is None
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert child.returncode == 0
    assert not said
    assert not list(tmp_path.iterdir())


def test_a_forked_child_does_not_wait_for_the_copies_of_its_parent(tmp_path, memory):
    may_end = threading.Event()
    keep_packed(tmp_path / "name", memory, lambda path, digest: may_end.wait(60))
    child = os.fork()
    if not child:
        wait_for_all()
        os._exit(0 if not keeping._COPIES else 1)
    assert os.waitpid(child, 0)[1] == 0
    may_end.set()
    wait_for_all()
