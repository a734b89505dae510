"""Versions are read once; what is not installed is looked for again."""

import importlib.metadata
from importlib.metadata import PackageNotFoundError

import pytest

from edgesdk.version import package_version


def test_metadata_are_read_once(monkeypatch):
    found = package_version("numpy")
    monkeypatch.setattr(importlib.metadata, "version", None)
    assert package_version("numpy") == found


def test_a_package_that_comes_later_is_found(monkeypatch):
    with pytest.raises(PackageNotFoundError):
        package_version("no-such-package")
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "1.2")
    assert package_version("no-such-package") == "1.2"
    package_version.cache_clear()
