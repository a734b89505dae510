"""What a bundle may list, and what may stand in its folder under such a name."""

import os

import pytest

from edgesdk.bundle.file_kinds import check_kind, check_places
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import BundleError


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "parity.npz",
        "parity-shallow.npz",
        "variants/w8/model.tflite",
        "variants/onnx-w8/model.onnx.data",
        "variants/onnx-w8/genai_config.json",
        "variants/npu/step_1_64_qnn.bin",
        "variants/coreml/part_1.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    ],
)
def test_what_is_written_may_be_listed(name):
    assert check_kind(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "libx.so",
        "variants/w8/libx.so",
        "variants/w8/libx.so.1",
        "variants/w8/x.dylib",
        "variants/w8/x.dll",
        "variants/w8/x.py",
        "variants/w8/deep/model.onnx",
        "model.onnx",
        "variants/w8/model.ort",
        "variants/c/model.mlpackage/Data/com.apple.CoreML/other.bin",
        "variants/w8/model.onnx\n",
    ],
)
def test_nothing_else_may(name, bundle, reseal):
    with pytest.raises(BundleError, match=r"that no bundle holds|a bundle may hold"):
        check_kind(name)
    reseal(bundle.path, also=[name])
    with pytest.raises(BundleError):
        open_bundle(bundle.path)


@pytest.mark.parametrize(
    "name", ["con", "variants/NUL/model.onnx", "variants/w8/aux.onnx", "variants/w8./m.onnx"]
)
def test_names_that_are_devices_on_windows_are_refused(name):
    with pytest.raises(BundleError, match="not a file name a bundle may hold"):
        check_kind(name)


def test_a_writer_finishes_no_bundle_that_no_reader_opens(manifest, tmp_path):
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.path("tokenizer.json").write_text("{}")
        writer.path("variants/w8/model.tflite").write_bytes(b"")
        writer.path("variants/w8/notes.txt").write_text("x")
        with pytest.raises(BundleError, match="no bundle holds"):
            writer.finish(manifest)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files in folders")
@pytest.mark.parametrize("name", ["tokenizer.json", "variants/w8/model.tflite", "manifest.json"])
@pytest.mark.parametrize("kind", ["link", "inner link", "device", "pipe", "folder"])
def test_links_and_devices_are_refused_without_being_opened(name, kind, bundle, tmp_path):
    path = bundle.path / name
    path.rename(tmp_path / "moved")
    if kind == "link":
        path.symlink_to(tmp_path / "moved")
    elif kind == "inner link":
        (tmp_path / "moved").rename(path.parent / "moved")
        path.symlink_to("moved")
    elif kind == "device":
        path.symlink_to(os.devnull)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(BundleError, match="expected a plain file"):
        open_bundle(bundle.path)
    if name != "manifest.json":
        with pytest.raises(BundleError, match="expected a plain file"):
            bundle.file(name)


def test_a_folder_on_the_way_may_be_no_link(bundle, tmp_path):
    (bundle.path / "variants").rename(tmp_path / "elsewhere")
    (bundle.path / "variants").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="expected a folder"):
        open_bundle(bundle.path)


def test_a_bundle_may_be_reached_by_a_link(bundle, tmp_path):
    (tmp_path / "here").symlink_to(bundle.path)
    assert open_bundle(tmp_path / "here").file("tokenizer.json").is_file()


def test_what_is_absent_is_another_question(tmp_path):
    check_places(tmp_path, ["variants/w8/model.tflite"])
