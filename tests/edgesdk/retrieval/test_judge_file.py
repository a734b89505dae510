"""A trained judge as a file: what it says, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from edgesdk.errors import RetrievalError
from edgesdk.retrieval.head_judge import chance_known
from edgesdk.retrieval.judge_file import JudgeFile, read_judge, write_judge

HEAD = JudgeFile(
    numbers="ab",
    hidden=0,
    mean=(0.0, 1.0, 0.0, 0.0),
    scale=(1.0, 2.0, 1.0, 1.0),
    weights=(1.0, -1.0, 0.0, 0.5),
    bias=0.25,
    threshold=0.5,
    questions=40,
    auroc=0.75,
)


def test_written_and_read(tmp_path):
    write_judge(tmp_path / "j", HEAD)
    assert read_judge(tmp_path / "j") == HEAD
    # 1 * 2 - 1 * (5 - 1) / 2 + 0.5 * 3 + 0.25
    assert chance_known(HEAD, np.array([2.0, 5.0, 9.0, 3.0])) == pytest.approx(1 / (1 + np.exp(-1.75)))
    assert chance_known(HEAD, np.array([1e9, 0.0, 0.0, 0.0])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": [0.0]}, "different lengths"),
        ({"scale": [1.0, 0.0, 1.0, 1.0]}, "scales of 0"),
        ({"hidden": 9}, "different lengths"),
        ({"hidden": -1}, "different lengths"),
        ({"version": 2}, "no judge of this version"),
        ({"format": "other"}, "no judge of this version"),
        ({"more": 1}, "no judge of this version"),
        ({"weights": "1"}, "no judge of this version"),
    ],
)
def test_another_document_is_refused(tmp_path, changed, message):
    write_judge(tmp_path / "j", HEAD)
    document = json.loads((tmp_path / "j").read_text()) | changed
    (tmp_path / "j").write_text(json.dumps(document))
    with pytest.raises(RetrievalError, match=message):
        read_judge(tmp_path / "j")


def test_what_is_no_document_is_refused(tmp_path):
    with pytest.raises(RetrievalError, match="cannot be read"):
        read_judge(tmp_path / "none")
    (tmp_path / "j").write_text("{")
    with pytest.raises(RetrievalError, match="no JSON"):
        read_judge(tmp_path / "j")
    write_judge(tmp_path / "j", dataclasses.replace(HEAD, bias=float("inf")))
    with pytest.raises(RetrievalError, match=r"finite|version"):
        read_judge(tmp_path / "j")
