"""What has passed a check is remembered, as far as there is a cache."""

import os

import pytest

from edgesdk.bundle import passed_checks
from edgesdk.bundle.passed_checks import has_passed, remember_passed


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_check_is_remembered_by_its_name_and_key(cache):
    assert not has_passed("first", "1")
    remember_passed("first", "1")
    assert has_passed("first", "1")
    assert not has_passed("first", "2")
    assert not has_passed("second", "1")


def test_asking_makes_it_new(cache):
    remember_passed("first", "1")
    os.utime(cache / "first/1", (1000, 1000))
    assert has_passed("first", "1")
    assert (cache / "first/1").stat().st_mtime > 1000


def test_the_newest_are_kept(cache, monkeypatch):
    monkeypatch.setattr(passed_checks, "MOST_RECORDS", 2)
    for number in range(3):
        remember_passed("first", str(number))
        os.utime(cache / "first" / str(number), (1000 + number, 1000 + number))
    assert [has_passed("first", str(number)) for number in range(3)] == [False, True, True]


def test_without_a_cache_nothing_is_remembered_and_nothing_raised(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "file"))
    remember_passed("first", "1")
    assert not has_passed("first", "1")

    def nowhere():
        raise FileNotFoundError(2, "this user has no home folder")

    monkeypatch.setattr(passed_checks, "cache_folder", nowhere)
    remember_passed("first", "1")
    assert not has_passed("first", "1")
