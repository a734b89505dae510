"""The offline part of the audit: lower bounds against the dated list."""

import importlib.util
import tomllib

import pytest


@pytest.fixture(scope="module")
def root(request):
    return request.config.rootpath


@pytest.fixture(scope="module")
def audit(root):
    spec = importlib.util.spec_from_file_location("audit", root / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_requirement_allows_a_version_with_a_known_advisory(audit, root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    known = tomllib.loads((root / ".ci" / "advisories.toml").read_text(encoding="utf-8"))
    assert audit.check_list(audit.requirements(project), known["advisory"]) == []


def test_bounds_that_are_too_low_or_absent_are_found(audit):
    advisory = {"package": "some-package", "fixed": "1.21", "id": "GHSA-x"}
    found = audit.check_list(
        ["some_package>=1.19", "Some.Package", "some-package>=1.21", "other>=1"], [advisory]
    )
    assert [line.split("'")[1] for line in found] == ["some_package>=1.19", "Some.Package"]


def test_versions_are_compared_by_number(audit):
    assert audit.numbers("3.10") > audit.numbers("3.9.9")
    assert audit.numbers("1.21.0rc1") == audit.numbers("1.21")
