import os
import time

import pytest

from edgesdk.bundle.integrity import cache_folder, check_integrity, forget
from edgesdk.errors import BundleError

MODEL = "variants/w8/model.tflite"


@pytest.fixture
def settled(bundle):
    """The bundle once its files are old enough to be remembered."""
    time.sleep(0.06)
    return bundle


def flip(bundle, name, keep_time=False):
    path = bundle.file(name)
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_hashed_once_then_only_looked_up(settled):
    assert check_integrity(settled) == "hashed"
    assert check_integrity(settled) == "unchanged"
    assert check_integrity(settled, full=True) == "hashed"


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("name", [MODEL, "tokenizer.json"])
def test_one_flipped_byte_names_the_file(settled, name, keep_time):
    check_integrity(settled)
    flip(settled, name, keep_time)
    with pytest.raises(BundleError, match=f"{name}.*damaged") as caught:
        check_integrity(settled)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_seen_without_hashing(settled):
    settled.file(MODEL).write_bytes(b"short")
    with pytest.raises(BundleError, match="is 5 bytes, its manifest says 7000"):
        check_integrity(settled)


def test_only_the_named_files_are_looked_at(settled):
    flip(settled, MODEL)
    assert check_integrity(settled, ["tokenizer.json"]) == "hashed"
    with pytest.raises(BundleError, match="damaged"):
        check_integrity(settled, [MODEL])


def test_what_was_found_right_stays_remembered_when_others_are_checked(settled):
    check_integrity(settled, ["tokenizer.json"])
    check_integrity(settled, [MODEL])
    assert check_integrity(settled) == "unchanged"


def test_a_file_just_written_is_not_remembered(bundle):
    future = time.time_ns() + 10**9
    os.utime(bundle.file(MODEL), ns=(future, future))
    assert check_integrity(bundle) == "hashed"
    assert check_integrity(bundle) == "hashed"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"variants/w8/model.tflite": 3}'])
def test_a_damaged_record_costs_one_hash(settled, text):
    check_integrity(settled)
    (record,) = (cache_folder() / "integrity").iterdir()
    record.write_text(text)
    assert check_integrity(settled) == "hashed"
    assert check_integrity(settled) == "unchanged"


def test_a_cache_that_cannot_be_written_is_no_error(settled, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "file" / "below"))
    assert check_integrity(settled) == "hashed"
    assert check_integrity(settled) == "hashed"


def test_what_is_forgotten_is_hashed_again(settled):
    check_integrity(settled)
    forget(settled.path)
    assert check_integrity(settled) == "hashed"
    forget(settled.path / "never" / "there")


def test_a_user_without_a_home_checks_anew_each_time(settled, monkeypatch, tmp_path):
    for name in ("EDGESDK_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # the user is in no list either
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError, match="no home folder to keep a cache in; set EDGESDK_CACHE"):
        cache_folder()
    assert check_integrity(settled) == "hashed"
    assert check_integrity(settled) == "hashed"
    forget(settled.path)
    assert sorted(tmp_path.rglob("*")) == before
