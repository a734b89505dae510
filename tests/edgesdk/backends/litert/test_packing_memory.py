"""Files in memory: only where nothing can make a write to them fail."""

import os
import resource
import sys

import pytest

from edgesdk.backends.litert import packing_memory
from edgesdk.backends.litert.packing_memory import open_packing_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have none")


def test_what_is_written_by_name_is_read_until_the_last_one_closes():
    memory = open_packing_memory(100)
    content = os.urandom(70_000)
    before = memory.stamp()
    memory.path.write_bytes(content)
    assert memory.size_bytes() == len(content)
    assert memory.stamp() != before
    other = memory.share()
    handles = int(memory.path.name), int(other.path.name)
    memory.close()
    memory.close()
    piece = memoryview(bytearray(50_000))
    assert other.read(piece, 0) == 50_000
    assert piece == content[:50_000]
    assert other.read(piece, 50_000) == 20_000
    assert piece[:20_000] == content[50_000:]
    assert other.read(piece, len(content)) == 0
    other.close()
    for handle in handles:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)


def test_limited_files_and_little_memory_leave_it_to_a_child(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda which: (1 << 40, resource.RLIM_INFINITY))
        assert open_packing_memory(100) is None
    available = packing_memory._available_bytes()
    assert available > 0
    assert open_packing_memory(available) is None
    monkeypatch.setattr(packing_memory.sys, "platform", "darwin")
    assert open_packing_memory(100) is None
