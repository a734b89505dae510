"""Files appear whole or not at all, and only where nothing or a plain file stands."""

import errno
import os
import socket

import pytest

from edgesdk.bundle.write_file import check_target, write_file
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import BundleError


def half(path):
    path.write_text("half")
    raise ValueError("half way")


@pytest.mark.parametrize("content", ["text\n", b"text\n", lambda path: path.write_bytes(b"text\n")])
def test_text_bytes_and_writers(content, tmp_path):
    write_file(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"text\n"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(ValueError, match="half way"):
        write_file(tmp_path / "file", half)
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="rights are others there")
def test_a_replaced_file_keeps_its_rights(tmp_path):
    private = tmp_path / "private"
    private.write_text("old")
    private.chmod(0o600)
    write_file(private, "new")
    assert private.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="there are other kinds of files there")
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("link", "is a link"),
        ("dangling", "is a link"),
        ("folder", "is a folder"),
        ("pipe", "is a pipe"),
        ("socket", "is a socket"),
        ("device", "is a device"),
    ],
)
def test_anything_but_a_plain_file_is_refused_and_stays(kind, why, tmp_path):
    target, aside = tmp_path / "target", tmp_path / "aside"
    if kind == "device":
        target = type(tmp_path)("/dev/null")
    elif kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            place = os.open(tmp_path, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{place}/target")
            os.close(place)
    else:
        target.symlink_to(aside)
        if kind == "link":
            aside.write_text("precious")
    before = os.lstat(target).st_mode
    with pytest.raises(OSError, match=why) as caught:
        write_file(target, "new")
    assert "\n" not in caught.value.strerror
    assert os.lstat(target).st_mode == before
    if kind == "link":
        assert aside.read_text() == "precious"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".edgesdk-")]


def test_parents_are_checked(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="its folder does not exist; make it first"):
        check_target(tmp_path / "no" / "such")
    with pytest.raises(NotADirectoryError):
        check_target(tmp_path / "file" / "below")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - told by its number
        check_target(tmp_path / ("x" * 300))
    assert caught.value.errno == errno.ENAMETOOLONG
    with pytest.raises(OSError, match="no file name"):
        check_target(tmp_path / "a\0b")


def test_the_longest_name_can_be_written(tmp_path):
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    write_file(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


def test_windows_has_names_that_are_devices(tmp_path, monkeypatch):
    names = ("con", "NUL.json", "com1.tar.gz", "lpt\u00b9", "prn .txt", "a.", "b ")
    for name in names:
        check_target(tmp_path / name)
    monkeypatch.setattr("edgesdk.bundle.write_file._WINDOWS", True)
    for name in names:
        with pytest.raises(OSError, match="Windows has no file named"):
            check_target(tmp_path / name)
        with pytest.raises(BundleError, match="Windows has no file named"):
            BundleWriter(tmp_path / name)
    for name in ("console", "com", "com10", "aux1.json", ".hidden", "a.con"):
        check_target(tmp_path / name)
