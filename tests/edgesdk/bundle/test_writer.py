import errno
import json
import os
import subprocess

import pytest

from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import BundleError


def start(target, *, then=None, overwrite=False):
    """Writes one file of a bundle, then fails."""
    with BundleWriter(target, overwrite=overwrite) as writer:
        writer.path("tokenizer.json").write_text("new")
        if then is not None:
            raise then


def test_what_is_written_is_what_is_read(write, manifest, tmp_path):
    bundle = write(tmp_path / "made" / "on the way" / "bundle")
    assert set(bundle.manifest.files) == {"tokenizer.json", "variants/w8/model.tflite"}
    assert bundle.manifest.files["variants/w8/model.tflite"].size_bytes == 7000
    assert bundle.manifest.decoder == manifest.decoder
    assert bundle.file("variants/w8/model.tflite").read_bytes() == b"weights" * 1000
    assert os.listdir(bundle.path.parent) == ["bundle"]
    text = (bundle.path / "manifest.json").read_text()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text.startswith("{\n  ")


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_nothing_is_left_after_a_failure(failure, tmp_path):
    with pytest.raises(type(failure)):
        start(tmp_path / "new" / "bundle", then=failure)
    assert not list(tmp_path.iterdir())


def test_a_block_left_without_finish_leaves_nothing(tmp_path):
    start(tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(BundleError, match="disk is full") as caught:
        start(tmp_path / "bundle", then=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_whatever_keeps_a_file_from_being_written_is_one_line(tmp_path):
    for error in (OSError(errno.EFBIG, "File too large"), OSError(errno.EIO, "Input/output error")):
        with pytest.raises(BundleError, match=f"bundle cannot be written: {error.strerror}$"):
            start(tmp_path / "bundle", then=error)
    with pytest.raises(FileNotFoundError):  # of a file that was to be read
        start(tmp_path / "bundle", then=FileNotFoundError(errno.ENOENT, "No such file", "/somewhere/else"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where this machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(disk)], capture_output=True, check=False
        )
    except OSError:
        pytest.skip("no mount command")
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk(write, small_disk):
    with pytest.raises(BundleError, match="disk is full"):
        write(small_disk / "bundle", weights=b"x" * 200_000)
    assert not list(small_disk.iterdir())


def test_an_existing_target_is_refused_before_any_work(write, tmp_path):
    write(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"holds a bundle; choose another folder$"):
        BundleWriter(tmp_path / "bundle")


def test_an_empty_folder_is_as_good_as_none(write, tmp_path):
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle")
    assert os.listdir(tmp_path) == ["bundle"]


def test_overwriting_replaces_the_whole_bundle(write, tmp_path):
    write(tmp_path / "bundle")
    bundle = write(tmp_path / "bundle", overwrite=True, weights=b"new")
    assert bundle.file("variants/w8/model.tflite").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_failed_overwrite_keeps_the_old_bundle(write, tmp_path):
    bundle = write(tmp_path / "bundle")
    with pytest.raises(ValueError, match="half way"):
        start(bundle.path, then=ValueError("half way"), overwrite=True)
    assert bundle.file("tokenizer.json").read_text() == "{}"
    assert os.listdir(tmp_path) == ["bundle"]


def test_an_interrupted_swap_puts_the_old_bundle_back(write, tmp_path, monkeypatch):
    bundle = write(tmp_path / "bundle")
    rename = type(bundle.path).rename

    def interrupted(self, target):
        if self.name == "bundle" and self.parent.name.startswith(".edgesdk-"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(type(bundle.path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(bundle.path, overwrite=True, weights=b"new")
    assert len(bundle.file("variants/w8/model.tflite").read_bytes()) == 7000
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_folder_that_is_no_bundle_is_never_overwritten(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years")
    for overwrite in (True, False):
        with pytest.raises(BundleError, match=r"not a bundle .*; choose another folder$"):
            BundleWriter(tmp_path / "home", overwrite=overwrite)
        with pytest.raises(BundleError, match=r"thesis.txt is not a folder; choose another place$"):
            BundleWriter(tmp_path / "home" / "thesis.txt", overwrite=overwrite)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_is_never_overwritten(write, tmp_path):
    write(tmp_path / "bundle")
    (tmp_path / "link").symlink_to("bundle")
    with pytest.raises(BundleError, match="link is a link"):
        BundleWriter(tmp_path / "link", overwrite=True)


def test_names_that_leave_the_bundle_are_refused(tmp_path):
    with BundleWriter(tmp_path / "bundle") as writer, pytest.raises(BundleError, match="not a file name"):
        writer.path("../escaped.txt")


def test_links_are_refused(manifest, tmp_path):
    (tmp_path / "secret").write_text("x")
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.path("tokenizer.json").symlink_to(tmp_path / "secret")
        with pytest.raises(BundleError, match="is a link"):
            writer.finish(manifest)
    assert os.listdir(tmp_path) == ["secret"]
