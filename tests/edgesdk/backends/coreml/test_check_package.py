"""The table of contents of a package names the model and its weights, and nothing else."""

import json

import pytest

from edgesdk.backends.coreml.check_package import check_package
from edgesdk.errors import BundleError


def test_what_coremltools_writes_passes(package):
    check_package(package / "Manifest.json")


@pytest.mark.parametrize(
    "document",
    [
        {"itemInfoEntries": {"a": {"path": "../../x"}}},
        {"itemInfoEntries": {"a": {"path": "/x"}}},
        {"itemInfoEntries": {"a": {"path": ["com.apple.CoreML/weights"]}}},
        {"itemInfoEntries": {"a": {"path": "com.apple.CoreML/weights", "note": 1}}},
        {"itemInfoEntries": {"a": 1}},
        {"itemInfoEntries": {}, "note": 1},
        {"itemInfoEntries": []},
        [],
    ],
)
def test_anything_else_is_refused(document, tmp_path):
    path = tmp_path / "Manifest.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BundleError, match=r"Manifest\.json"):
        check_package(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, " " * 70_000])
def test_what_is_no_json_is_refused(text, tmp_path):
    path = tmp_path / "Manifest.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"Manifest\.json"):
        check_package(path)
