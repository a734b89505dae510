"""A work folder serves every kind of training of one target: texts, bundles and states are made once."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jax", reason="needs the extra 'train'")
pytest.importorskip("optax", reason="needs the extra 'train'")

from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.training import running_target, work_folder
from edgesdk_converters.training.draft_training import DraftTraining
from edgesdk_converters.training.features import open_features
from edgesdk_converters.training.stream_training import StreamTraining
from edgesdk_converters.training.train_draft import train_draft
from edgesdk_converters.training.train_streams import train_streams
from edgesdk_converters.training.work_folder import take_work_folder

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"


@pytest.mark.parametrize("form", ["masks", "streams"])
def test_streams_learn_from_what_a_draft_has_read(tmp_path, form, monkeypatch):
    text, work = tmp_path / "text.txt", tmp_path / "work"
    text.write_text("The sea is wide and the boat is small. " * 80, encoding="utf-8")
    shared = {"hours": None, "steps": 2, "data": (str(text),), "work": work}
    train_draft(
        str(TINY),
        tmp_path / "draft",
        DraftTraining(loss="kld", width=16, words=32, depth=1, windows=2, **shared),
    )
    before = {path: path.read_bytes() for path in (work / "features").iterdir()}
    monkeypatch.setattr(running_target, "load", lambda *_, **__: pytest.fail("the texts are read again"))
    options = StreamTraining(form=form, rank=4, words=64, streams=2, tokens=96, places=16, **shared)
    train_streams(str(TINY), tmp_path / "streams", options)
    assert {path: path.read_bytes() for path in (work / "features").iterdir()} == before
    states = list(work.glob("states.*"))
    assert len(states) == (form == "streams")
    for folder in states:  # row by row of the same tokens
        np.testing.assert_array_equal(open_features(folder).tokens, open_features(work / "features").tokens)


def test_a_bundle_is_made_of_the_revision_that_was_opened(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(work_folder, "convert", lambda *_, revision=None: asked.append(revision))
    checkpoint = open_checkpoint(str(TINY))
    program = read_program(checkpoint)
    target = take_work_folder(str(TINY), "v2", checkpoint, program, tmp_path / "work")
    target.bundle("reader", states=True)
    assert asked == ["v2"]
