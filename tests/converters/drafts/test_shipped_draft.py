"""Drafts that come with the package: found by name, small, and used by a demo."""

import pytest

from edgesdk_converters.convert_options import ConvertOptions, check_options
from edgesdk_converters.drafts import shipped_draft as room
from edgesdk_converters.drafts.draft_checkpoint import read_draft, write_draft
from edgesdk_converters.drafts.shipped_draft import FOLDER, MOST_BYTES, shipped_draft


def test_whatever_ships_can_be_read_and_is_small():
    for folder in sorted(FOLDER.glob("*")):
        assert read_draft(folder).config.target.name
        assert sum(file.stat().st_size for file in folder.iterdir()) <= MOST_BYTES, folder.name


def test_a_draft_is_found_by_the_name_of_its_model(tmp_path, monkeypatch, make_draft):
    monkeypatch.setattr(room, "FOLDER", tmp_path)
    assert shipped_draft("tiny") is None
    write_draft(tmp_path / "tiny", make_draft("llama"), numbers="float16")
    assert shipped_draft("tiny") == tmp_path / "tiny"


def test_a_draft_that_nobody_asked_for_is_not_missed(tmp_path, monkeypatch, make_draft):
    """A named model brings its draft along; that a target has no place for it is no news."""
    monkeypatch.setattr(room, "FOLDER", tmp_path / "shipped")
    for folder in (tmp_path / "shipped" / "tiny", tmp_path / "own"):
        folder.parent.mkdir(exist_ok=True)
        write_draft(folder, make_draft("llama"), numbers="float16")
    notes = {}
    for folder in (tmp_path / "shipped" / "tiny", tmp_path / "own"):
        options = ConvertOptions(targets=("litert", "onnx"), recipes=("w8-round",), draft=folder)
        notes[folder.name] = check_options(options).notes(options)
    assert notes == {"tiny": [], "own": ["onnx holds no draft and is written without"]}


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "./model.gguf"])
def test_what_is_no_name_finds_nothing(name):
    assert shipped_draft(name) is None
