"""Files in memory: only where nothing can make a write to them fail."""

import os
import resource
import sys

import pytest

from edgesdk.backends.litert import packing_memory
from edgesdk.backends.litert.packing_memory import open_packing_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have none")


def test_what_is_written_by_name_is_copied(tmp_path):
    memory = open_packing_memory(100)
    content = os.urandom(70_000)
    memory.path.write_bytes(content)
    assert memory.size_bytes() == len(content)
    memory.copy_to(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    handle = int(memory.path.name)
    memory.close()
    memory.close()
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
