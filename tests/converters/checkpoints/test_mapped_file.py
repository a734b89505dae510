"""Bytes of a file stay what they are, whether their pages are in memory or not."""

import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.mapped_file import MappedFile


@pytest.fixture
def content(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, 5 * mmap.PAGESIZE + 123, np.uint8)
    (tmp_path / "file").write_bytes(values.tobytes())
    return tmp_path / "file", values


def test_views_are_the_bytes_and_cannot_be_written(content):
    path, values = content
    file = MappedFile(path)
    view = file.view(100, 2 * mmap.PAGESIZE)
    np.testing.assert_array_equal(view, values[100 : 100 + 2 * mmap.PAGESIZE])
    assert not view.flags.writeable


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 10), (100, 3 * mmap.PAGESIZE), (0, 5 * mmap.PAGESIZE + 123), (7, 0)]
)
def test_released_bytes_come_back(content, offset, size):
    path, values = content
    file = MappedFile(path)
    view = file.view(0, len(values))
    assert view.sum() == values.sum()
    file.release(offset, size)
    np.testing.assert_array_equal(view, values)


@pytest.mark.skipif(os.name == "nt", reason="a mapped file cannot be cut there")
def test_a_file_that_was_cut_is_one_line_and_not_the_end_of_the_process(content):
    path, values = content
    file = MappedFile(path)
    os.truncate(path, mmap.PAGESIZE)
    np.testing.assert_array_equal(file.view(0, mmap.PAGESIZE), values[: mmap.PAGESIZE])
    with pytest.raises(CheckpointError, match=f"file has {mmap.PAGESIZE} bytes, fewer than .* it was cut"):
        file.view(mmap.PAGESIZE, 1)


def test_a_file_that_is_empty_or_gone_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="gone cannot be read: No such file"):
        MappedFile(tmp_path / "gone")
    (tmp_path / "none").touch()
    with pytest.raises(CheckpointError, match="none is empty"):
        MappedFile(tmp_path / "none")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="looks at /proc")
def test_what_is_released_is_not_resident(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(8 << 20))
    file = MappedFile(path)

    def resident_kb():
        part = Path("/proc/self/smaps").read_text().split(str(path))[1]
        return int(re.search(r"Rss:\s+(\d+)", part)[1])

    assert file.view(0, 8 << 20).sum() == 0
    assert resident_kb() == 8 << 10
    file.release(0, 8 << 20)
    assert resident_kb() == 0
