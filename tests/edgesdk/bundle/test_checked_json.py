import random

import pytest

from edgesdk.bundle.checked_json import read_checked, write_checked

DOCUMENT = {"figures": [1.5, 2, None], "name": "é"}
LIMIT = 1 << 16


def test_what_is_written_is_read(tmp_path):
    write_checked(tmp_path / "made" / "document", DOCUMENT)
    assert read_checked(tmp_path / "made" / "document", LIMIT) == DOCUMENT


def test_a_changed_or_lost_byte_is_not_believed(tmp_path):
    path = tmp_path / "document"
    write_checked(path, DOCUMENT)
    whole, draw = path.read_bytes(), random.Random(1)
    for _ in range(200):
        damaged = bytearray(whole)
        place = draw.randrange(len(whole) - 1)  # the last one only ends the line
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        assert read_checked(path, LIMIT) is None
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        assert read_checked(path, LIMIT) is None


@pytest.mark.parametrize("limit", [0, 10, 80])
def test_a_longer_document_is_not_read(limit, tmp_path):
    write_checked(tmp_path / "document", DOCUMENT)
    assert read_checked(tmp_path / "document", limit) is None
    assert read_checked(tmp_path / "absent", limit) is None
