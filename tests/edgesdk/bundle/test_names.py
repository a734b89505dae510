import pytest

from edgesdk.bundle.names import check_name
from edgesdk.errors import BundleError


@pytest.mark.parametrize("name", ["tokenizer.json", "variants/w8/model.tflite", "a b/ü.txt"])
def test_plain_relative_names_pass(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "C:x",
        "a\0b",
        "a\nb",
        "a" * 300,
    ],
)
def test_anything_else_is_refused(name):
    with pytest.raises(BundleError, match="not a file name a bundle may hold"):
        check_name(name)


def test_the_manifest_is_no_file_of_the_bundle():
    with pytest.raises(BundleError, match="cannot list or replace itself"):
        check_name("manifest.json")
