"""Lists of packages: read as written, refused in one line otherwise."""

import json

import pytest

from edgesdk.bundle.package_list import PackageList, read_package_list, write_package_list
from edgesdk.errors import BundleError


def test_round_trip(tmp_path):
    packages = PackageList(("part_1.mlpackage", "part_2.mlpackage"))
    write_package_list(tmp_path / "packages.json", packages)
    assert read_package_list(tmp_path / "packages.json") == packages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 60000, "not valid JSON"),
        (" " * 70000, r"packages\.json"),
        ("[]", r"packages\.json"),
        ('{"packages": []}', "names 0 packages"),
        ('{"packages": ["a", "a"]}', "each once"),
        ('{"packages": ["../a"]}', "not a file name"),
        ('{"packages": ["/a"]}', "not a file name"),
        ('{"packages": [1]}', r"packages\.json"),
        ('{"packages": ["a"], "more": 1}', "unknown key"),
        (json.dumps({"packages": [str(i) for i in range(300)]}), "names 300 packages"),
        ("\udcff", r"packages\.json"),
    ],
)
def test_damaged_lists_end_in_one_line(tmp_path, text, message):
    path = tmp_path / "packages.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=message) as caught:
        read_package_list(path)
    assert "\n" not in str(caught.value)


def test_a_missing_list(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        read_package_list(tmp_path / "packages.json")
