"""A few notes, and an index of them."""

import pytest

from edgesdk.retrieval.text_index import make_index


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "trip.md").write_text("# Trip to Lisbon\n\nA hotel by the river.\n\nThe tram costs 3 euros.")
    (folder / "cats.html").write_text("<title>Cats</title><p>A cat sleeps <b>sixteen</b> hours a day.</p>")
    (folder / "boiler.txt").write_text("The boiler was repaired in March. It has state-of-the-art heating.")
    return folder


@pytest.fixture
def index(tmp_path, notes):
    with make_index(tmp_path / "index") as made:
        made.add([notes])
        yield made
