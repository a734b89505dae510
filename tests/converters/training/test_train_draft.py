"""A draft from a tiny checkpoint to a folder that converters read: by the verb and by the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("jax", reason="needs the extra 'train'")
pytest.importorskip("optax", reason="needs the extra 'train'")

from edgesdk.cli.main import cli
from edgesdk.errors import CheckpointError, EdgeError, UnsupportedOption
from edgesdk_converters.drafts.draft_checkpoint import read_draft
from edgesdk_converters.drafts.trained_folder import WEIGHTS
from edgesdk_converters.training.draft_training import DraftTraining
from edgesdk_converters.training.teach_texts import read_texts
from edgesdk_converters.training.train_draft import train_draft
from edgesdk_converters.training.trainer import LOG_FILE, STATE_FILE, read_log

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
SMALL = {"steps": 40, "hours": None, "width": 32, "words": 64, "depth": 2, "windows": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A draft that learnt from answers and from a text."""
    folder = tmp_path_factory.mktemp("draft")
    text = folder / "text.txt"
    text.write_text("The sea is wide and the boat is small. " * 60, encoding="utf-8")
    options = DraftTraining(data=("answers", str(text)), answer_tokens=1500, **SMALL)
    told = []
    report = train_draft(str(TINY), folder / "out", options, report=told.append)
    return folder / "out", options, report, told


def test_a_draft_is_what_converters_read(trained):
    out, _, report, _ = trained
    draft = read_draft(out)
    assert (draft.config.width, draft.config.depth, draft.config.layers) == (32, 2, 1)
    assert len(draft.vocabulary) == 64
    assert report.steps == 40
    assert report.worth is not None
    assert len(report.worth.efficiency) == 5
    assert all(1 <= each <= gamma + 1 for gamma, each in enumerate(report.worth.efficiency, 1))
    assert list(report.worth.efficiency) == sorted(report.worth.efficiency)


def test_it_learns_and_says_on_what(trained):
    out, _, _, told = trained
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert [each["data"] for each in record["data"]] == ["answers", "text.txt"]
    assert record["data"][0]["licence_of_the_instructions"] == "Apache-2.0"
    assert record["data"][1]["licence"] == "not stated"
    lines = read_log(out / "work" / "draft" / LOG_FILE)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert record["log"] == lines
    stages = list(dict.fromkeys(each.stage for each in told if each.stage != "note"))
    assert stages == ["reading", "teaching", "training", "proving"]
    shares = [each.share for each in told]
    assert shares == sorted(shares)


def test_going_on_after_the_end_gives_the_same_bits(trained):
    out, options, _, _ = trained
    before = (out / "model.safetensors").read_bytes()
    train_draft(str(TINY), out, options)
    assert (out / "model.safetensors").read_bytes() == before


def test_interrupted_while_it_trains_it_leaves_a_draft_and_goes_on(trained, tmp_path):
    out, options, _, _ = trained
    for name in ("answers.jsonl", "answers.json"):
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work" / name).write_bytes((out / "work" / name).read_bytes())

    def stop(progress):
        if progress.stage == "training" and "step 20" in progress.what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_draft(str(TINY), tmp_path, options, report=stop)
    half = read_draft(tmp_path)
    whole = read_draft(out)
    assert (tmp_path / "work" / "draft" / STATE_FILE).exists()
    assert not np.array_equal(half.tensors["norm_o.weight"], whole.tensors["norm_o.weight"])
    train_draft(str(TINY), tmp_path, options)
    assert (tmp_path / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_other_answers_are_not_mixed_in(trained):
    out, options, _, _ = trained
    more = DraftTraining(**{**vars(options), "answer_tokens": 3000, "seed": 1})
    with pytest.raises(CheckpointError, match="have seed 0, not 1; give another work folder"):
        train_draft(str(TINY), out, more)


def test_another_target_of_the_same_name_does_not_go_on(trained, tmp_path):
    """Neither answers nor states nor what was learnt is its own, though shapes and tokens are the same."""
    from safetensors.numpy import load_file, save_file

    out, options, _, _ = trained
    other = tmp_path / TINY.name
    shutil.copytree(TINY, other)
    weights = {name: value * value.dtype.type(1.5) for name, value in load_file(other / WEIGHTS).items()}
    save_file(weights, other / WEIGHTS, {"format": "pt"})
    before = (out / WEIGHTS).read_bytes()
    with pytest.raises(CheckpointError, match=r"of another target than this llama: .* another work folder"):
        train_draft(str(other), out, options)
    assert (out / WEIGHTS).read_bytes() == before
    shutil.copytree(out / "work" / "features", tmp_path / "work" / "features")
    with pytest.raises(CheckpointError, match="features of another target"):
        train_draft(str(other), tmp_path, replace(options, data=options.data[1:]))
    (tmp_path / "work" / "target.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"target\.json cannot be read"):
        train_draft(str(other), tmp_path, options)


def test_hours_are_planned_anew_for_other_options(tmp_path):
    """As long as nothing was learnt; a plan for other hours, or of wider steps, is none for these."""
    text = tmp_path / "text.txt"
    text.write_text("The sea is wide and the boat is small. " * 60, encoding="utf-8")
    options = DraftTraining(**{**SMALL, "steps": None, "hours": 1.0, "data": (str(text),)})
    plan = tmp_path / "out" / "work" / "draft" / "plan.json"

    def stop(progress):
        if progress.stage == "training":
            raise KeyboardInterrupt

    def steps(hours):
        with pytest.raises(KeyboardInterrupt):
            train_draft(str(TINY), tmp_path / "out", replace(options, hours=hours), report=stop)
        return json.loads(plan.read_text())["steps"]

    first = steps(1.0)
    assert steps(1.0) == first
    assert steps(1e-7) == 1
    for damage in ('{"steps": Infinity}', '{"steps": 0}', "[]"):
        plan.write_text(damage)
        with pytest.raises(CheckpointError, match=r"plan\.json cannot be read"):
            train_draft(str(TINY), tmp_path / "out", options)


def test_hours_do_not_go_on_with_steps(trained):
    out, options, _, _ = trained
    with pytest.raises(UnsupportedOption, match="holds a run of --steps, not of --hours"):
        train_draft(str(TINY), out, replace(options, steps=None, hours=1.0))


def test_a_text_that_is_not_there_is_found_before_answers_are_written(tmp_path):
    options = DraftTraining(**SMALL, data=("answers", str(tmp_path / "no.txt")), answer_tokens=1500)
    with pytest.raises(EdgeError, match=r"^the text .*no\.txt cannot be read: .*; give a UTF-8 text file"):
        train_draft(str(TINY), tmp_path / "out", options)
    assert not list((tmp_path / "out" / "work").glob("answers*"))


def test_a_file_of_answers_that_is_no_text_is_named(tmp_path):
    (tmp_path / "answers.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(CheckpointError, match=r"answers\.jsonl has no answers that .*; remove the file"):
        read_texts(tmp_path / "answers.jsonl")


def test_by_the_command_line(trained, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The sea is wide and the boat is small. " * 60, encoding="utf-8")
    arguments = ["train", "draft", str(TINY), str(tmp_path / "out"), "--data", str(text), "--steps", "40"]
    arguments += ["--width", "16", "--words", "32", "--depth", "1", "--json"]
    found = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert any("times; more text would teach it more" in each.get("what", "") for each in lines)
    last = lines[-1]
    assert last["event"] == "done"
    assert last["report"]["worth"] is None
    assert read_draft(tmp_path / "out").config.depth == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": "kl"}, "the loss is 'kl'"),
        ({"hours": 1.0}, "the hours to train or the steps"),
        ({"width": 0}, "width is 0, expected at least 1"),
        ({"data": ()}, "data is empty"),
        ({"data": ("answers", "sample", "answers")}, "data names 'answers' twice"),
    ],
)
def test_options_without_meaning_are_refused(change, says):
    with pytest.raises(UnsupportedOption, match=says):
        DraftTraining(**{**SMALL, **change})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"words": 10_000}, "a draft of 10000 words was asked for, expected"),
        ({"layers": 17}, "layers is 17, expected 1 to 16"),
        ({"depth": 65}, "depth is 65, expected 1 to 64"),
        ({"width": 1 << 26}, "width is 67108864, expected 1 to"),
    ],
)
def test_what_no_draft_of_the_target_is_is_refused_before_texts_are_written(tmp_path, change, says):
    options = DraftTraining(**{**SMALL, **change})
    with pytest.raises(UnsupportedOption, match=says):
        train_draft(str(TINY), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
