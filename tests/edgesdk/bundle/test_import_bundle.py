"""Bundles from elsewhere: whole, or refused in a line with nothing left behind."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

import edgesdk
from edgesdk.bundle import shelf
from edgesdk.bundle.integrity import check_integrity
from edgesdk.errors import BundleError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle(converted_once):
    source = ROOT / "tests/data/tiny/llama"
    return converted_once(source, targets=("litert",), recipes=("f32",), context=256, prove=False)


@pytest.fixture(autouse=True)
def own_shelf(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "shelf"))
    return tmp_path / "shelf"


@pytest.fixture
def copied(bundle, tmp_path):
    return Path(shutil.copytree(bundle, tmp_path / "Given"))


def zipped(folder, target, top=""):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, top + path.relative_to(folder).as_posix())
    return target


def nothing_left(folder):
    return not folder.exists() or [path for path in folder.iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("form", ["folder", "zip", "zip with a folder"])
def test_it_is_on_the_shelf_and_whole(copied, tmp_path, form):
    source = copied
    if form != "folder":
        source = zipped(copied, tmp_path / "Given.zip", "model/" if "folder" in form else "")
    (copied / "notes.txt").write_text("no part of a bundle")
    seen = []
    place = edgesdk.import_bundle(source, report=seen.append)
    assert place == shelf.place("given")
    check_integrity(edgesdk.open_bundle(place), full=True)
    assert edgesdk.open_bundle(place).manifest == edgesdk.open_bundle(copied).manifest
    assert not (place / "notes.txt").exists()
    shares = [each.share for each in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [model.name for model in edgesdk.shelved_models()] == ["given"]
    with edgesdk.load("given") as model:
        assert model.generate("x", max_tokens=2).new_tokens > 0


def test_a_name_is_replaced_only_when_asked(copied):
    edgesdk.import_bundle(copied, "mine")
    with pytest.raises(BundleError, match="mine is on the shelf; give another name"):
        edgesdk.import_bundle(copied, "mine")
    assert edgesdk.import_bundle(copied, "mine", replace=True) == shelf.place("mine")


def test_a_shelf_that_cannot_be_made_is_one_line(copied, monkeypatch):
    monkeypatch.setenv("EDGESDK_MODELS", str(copied / "manifest.json" / "shelf"))
    with pytest.raises(BundleError, match="shelf cannot be written"):
        edgesdk.import_bundle(copied)


def test_what_the_report_raises_ends_it_and_leaves_nothing(copied, own_shelf):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edgesdk.import_bundle(copied, report=stop)
    assert nothing_left(own_shelf)


def change_model(folder, change):
    (model,) = folder.rglob("*.tflite")
    model.write_bytes(change(model.read_bytes()))


def change_manifest(folder, change):
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def grow(folder):
    """Lists a file that no disk holds: what a small zip may grow to."""
    record = {"sha256": "0" * 64, "size_bytes": 1 << 60}
    change_manifest(folder, lambda d: d["files"].update({"variants/x/weights.bin": record}))
    (folder / "variants" / "x").mkdir(parents=True)
    (folder / "variants" / "x" / "weights.bin").write_bytes(b"x")


DAMAGE = {
    "has room for": grow,
    "is damaged: sha256": lambda f: change_model(f, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "has more than the": lambda f: change_model(f, lambda data: data + b"x"),
    "bytes that its manifest says": lambda f: change_model(f, lambda data: data[:100]),
    "lacks": lambda f: (f / "tokenizer.json").unlink(),
    "no manifest.json": lambda f: (f / "manifest.json").unlink(),
    "is not valid JSON": lambda f: (f / "manifest.json").write_text("{"),
    "upgrade edgesdk": lambda f: change_manifest(f, lambda d: d.update(schema_version=10_000)),
    "of a kind that no bundle holds": lambda f: change_manifest(
        f, lambda d: d["files"].update({"variants/x/run.so": {"sha256": "0" * 64, "size_bytes": 1}})
    ),
}


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("said", DAMAGE)
def test_what_is_damaged_is_refused(copied, tmp_path, own_shelf, form, said):
    DAMAGE[said](copied)
    source = copied if form == "folder" else zipped(copied, tmp_path / "given.zip")
    with pytest.raises(BundleError, match=said) as refused:
        edgesdk.import_bundle(source)
    assert "\n" not in str(refused.value)
    assert nothing_left(own_shelf)


def test_zips_that_are_none_are_refused(copied, tmp_path, own_shelf):
    whole = zipped(copied, tmp_path / "whole.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match="no zip that can be read"):
        edgesdk.import_bundle(cut)
    two = tmp_path / "two.zip"
    zipped(copied, two, "a/")
    with zipfile.ZipFile(two, "a") as archive:
        archive.writestr("b/manifest.json", "{}")
    with pytest.raises(BundleError, match="has 2 bundles"):
        edgesdk.import_bundle(two)
    climbing = tmp_path / "climbing.zip"
    with zipfile.ZipFile(climbing, "w") as archive:
        archive.writestr("../manifest.json", (copied / "manifest.json").read_text())
    with pytest.raises(BundleError, match=r"lacks|is damaged"):
        edgesdk.import_bundle(climbing)
    assert nothing_left(own_shelf)


def test_a_zip_whose_bytes_changed_is_refused(copied, tmp_path, own_shelf):
    path = zipped(copied, tmp_path / "given.zip")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BundleError):
        edgesdk.import_bundle(path)
    assert nothing_left(own_shelf)


@pytest.mark.parametrize("way", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_that_is_compressed_otherwise_is_refused(copied, tmp_path, own_shelf, way):
    path = tmp_path / "given.zip"
    with zipfile.ZipFile(path, "w", way) as archive:
        for file in sorted(each for each in copied.rglob("*") if each.is_file()):
            archive.write(file, file.relative_to(copied).as_posix())
    with pytest.raises(BundleError, match="make the zip again with deflate"):
        edgesdk.import_bundle(path)
    assert nothing_left(own_shelf)


def test_a_long_list_of_entries_is_not_read(copied, tmp_path, own_shelf, monkeypatch):
    monkeypatch.setattr("edgesdk.bundle.import_bundle._LARGEST_LIST_BYTES", 1000)
    path = tmp_path / "given.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(100):
            archive.writestr(f"{i}.txt", "")
    with pytest.raises(BundleError, match="its list of files has more than"):
        edgesdk.import_bundle(path)
    assert nothing_left(own_shelf)


def test_a_zip_may_have_a_comment(copied, tmp_path):
    path = zipped(copied, tmp_path / "given.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"from a friend"
    assert edgesdk.import_bundle(path) == shelf.place("given")
