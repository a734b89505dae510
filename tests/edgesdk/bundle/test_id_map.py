"""The id map of a pruned bundle: a round trip, and damaged files."""

import pytest

from edgesdk.bundle.id_map import IdMap, read_id_map
from edgesdk.errors import BundleError


def test_a_round_trip(tmp_path):
    ids = IdMap(10, (0, 3, 9))
    path = tmp_path / "vocabulary.json"
    path.write_text(ids.to_text(), encoding="utf-8")
    assert read_id_map(path) == ids
    assert ids.to_new([3, 4, 9]) == [1, None, 2]
    assert ids.to_old([0, 2]) == [0, 9]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"source_rows": 3}',
        '{"source_rows": 3, "old_ids": [0, 0]}',
        '{"source_rows": 3, "old_ids": [1, 0]}',
        '{"source_rows": 3, "old_ids": [3]}',
        '{"source_rows": 3, "old_ids": [-1]}',
        '{"source_rows": 3, "old_ids": [true]}',
        '{"source_rows": 3, "old_ids": [0], "more": 1}',
        "[" * 100_000,
    ],
    ids=range(10),
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "vocabulary.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        read_id_map(path)
    assert "\n" not in str(caught.value)
    assert "vocabulary.json" in str(caught.value)


def test_an_absent_file_is_one_line(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        read_id_map(tmp_path / "vocabulary.json")
