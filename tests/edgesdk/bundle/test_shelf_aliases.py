import json

import pytest

from edgesdk.bundle.shelf_aliases import ALIASES_NAME, MOST_ALIASES, change_aliases, read_aliases
from edgesdk.errors import BundleError


def test_no_shelf_has_no_aliases(tmp_path):
    assert read_aliases(tmp_path / "none") == {}
    (tmp_path / "file").write_text("x")
    assert read_aliases(tmp_path / "file") == {}


def test_they_are_kept_sorted_and_go_with_the_last(tmp_path):
    change_aliases(tmp_path, lambda _: {"b": "m", "a": "m"})
    assert list(read_aliases(tmp_path)) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == [ALIASES_NAME]
    change_aliases(tmp_path, lambda _: {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_changes_nothing(tmp_path):
    change_aliases(tmp_path, lambda _: {"a": "m"})

    def refuse(aliases):
        aliases.clear()
        raise BundleError("no")

    with pytest.raises(BundleError, match="no"):
        change_aliases(tmp_path, refuse)
    with pytest.raises(BundleError, match="takes no more"):
        change_aliases(tmp_path, lambda _: {f"a{i}": "m" for i in range(MOST_ALIASES + 1)})
    assert read_aliases(tmp_path) == {"a": "m"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"a": 1}',
        '{"a": "../m"}',
        '{"../a": "m"}',
        '{"A": "m"}',
        "[" * 100_000,
        "\xff",
        json.dumps({"a": "m"}) + " " * (1 << 20),
        json.dumps({f"a{i}": "m" for i in range(MOST_ALIASES + 1)}),
    ],
    ids=lambda text: text[:12],
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / ALIASES_NAME).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"\.json is damaged, expected an object of names; remove it"):
        read_aliases(tmp_path)
