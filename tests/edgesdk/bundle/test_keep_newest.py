"""Folders of small files are bounded, and the oldest go first."""

import os

from edgesdk.bundle import checked_json
from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.keep_newest import keep_newest


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(folder, count, ending=""):
    """Files with the names 0, 1, ..., each a second younger than the one before."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        path = folder / f"{i}{ending}"
        path.touch()
        os.utime(path, (1000 + i, 1000 + i))


def test_the_oldest_go(tmp_path):
    fill(tmp_path / "a", 6)
    os.utime(tmp_path / "a/0")  # used just now
    keep_newest(tmp_path / "a", most=3)
    assert names(tmp_path / "a") == ["0", "4", "5"]


def test_as_many_as_may_stay_stay(tmp_path):
    fill(tmp_path / "a", 3)
    keep_newest(tmp_path / "a", most=3)
    assert names(tmp_path / "a") == ["0", "1", "2"]


def test_other_files_folders_and_links_stay_and_do_not_count(tmp_path):
    fill(tmp_path, 3, ".json")
    fill(tmp_path, 2, ".bin")
    (tmp_path / "x.json").mkdir()
    (tmp_path / "y.json").symlink_to("0.bin")
    keep_newest(tmp_path, ".json", most=2)
    assert names(tmp_path) == ["0.bin", "1.bin", "1.json", "2.json", "x.json", "y.json"]


def test_a_folder_that_is_not_there_is_no_error(tmp_path):
    keep_newest(tmp_path / "none", most=0)


def test_records_of_the_cache_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_json, "MOST_RECORDS", 4)
    fill(tmp_path, 4, ".json")
    fill(tmp_path, 1, ".bin")
    write_checked(tmp_path / "new.json", [1])
    assert names(tmp_path) == ["0.bin", "1.json", "2.json", "3.json", "new.json"]
    assert read_checked(tmp_path / "new.json", 1000) == [1]
