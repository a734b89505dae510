import dataclasses
import shutil

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.sweeps import job
from edgesdk_converters.sweeps.expand_plan import PlanDigests, check_plan, expand_plan
from edgesdk_converters.sweeps.job import Job
from edgesdk_converters.sweeps.plan import PlannedDevice, PlannedSource, read_plan

SHARDED = '[[tasks]]\nkind = "evaluate"\ntext = "text.txt"\nshards = 3\n'
TIMED = '[[tasks]]\nkind = "bench"\n[[tasks]]\nkind = "prove"\n'


@pytest.fixture
def plan(write_plan):
    return read_plan(write_plan())


def keys(plan):
    return [[job.key for job in cell.jobs] for cell in expand_plan(plan)]


def test_a_bundle_comes_before_what_is_measured_of_it(plan):
    cells = list(expand_plan(plan))
    assert [cell.place[2:] for cell in cells] == [
        ("f32", "litert", "-", "convert"),
        ("f32", "litert", "here", "evaluate"),
        ("w8-round", "litert", "-", "convert"),
        ("w8-round", "litert", "here", "evaluate"),
    ]
    for made, measured in zip(cells[::2], cells[1::2], strict=True):
        assert measured.jobs[0] == made.jobs[0]
        assert measured.jobs[1].needs == (made.jobs[0].key,)


def test_shards_are_needed_by_the_whole_and_do_not_change_its_key(write_plan):
    sharded = list(expand_plan(read_plan(write_plan(SHARDED))))[1]
    convert, *parts, whole = sharded.jobs
    assert [part.kind for part in parts] == ["score"] * 3
    assert whole.needs == (convert.key, *(part.key for part in parts))
    plain = list(expand_plan(read_plan(write_plan(SHARDED.replace("shards = 3", "")))))[1]
    assert plain.jobs[-1].key == whole.key
    assert len({job.key for job in sharded.jobs}) == 5


def test_timed_jobs_are_alone_and_proofs_ask_for_a_proof(write_plan):
    cells = list(expand_plan(read_plan(write_plan(TIMED))))
    assert [job.alone for job in cells[1].jobs] == [False, True]
    assert cells[0].jobs[0].options["options"]["prove"] is True


def test_a_key_is_what_a_result_depends_on(plan, write_plan, tmp_path, monkeypatch):
    before = keys(plan)
    assert keys(plan) == before
    assert keys(dataclasses.replace(plan, name="other", timeout_s=9.0)) == before
    moved = tmp_path / "elsewhere"
    shutil.copytree(plan.sources[0].path, moved)
    assert keys(dataclasses.replace(plan, sources=(PlannedSource("b", str(moved)),))) == before
    other = dataclasses.replace(plan, devices=(PlannedDevice("here", threads=2),))
    changed = keys(other)
    assert [row[0] for row in changed] == [row[0] for row in before]
    assert changed[1][1] != before[1][1]
    (tmp_path / "text.txt").write_text("another text altogether", encoding="utf-8")
    assert keys(plan)[1][1] != before[1][1]
    config = moved / "tokenizer_config.json"
    config.write_text(config.read_text().replace("</s>", "<s>") + " ")
    weights = moved / "config.json"
    weights.write_text(weights.read_text().replace("1e-05", "1e-06").replace("1e-5", "1e-6"))
    assert keys(dataclasses.replace(plan, sources=(PlannedSource("b", str(moved)),)))[0] != before[0]
    monkeypatch.setattr(job, "read_version", lambda: "999")
    assert not {key for row in keys(plan) for key in row} & {key for row in before for key in row}


def test_what_one_expansion_has_read_the_next_does_not_read(plan, tmp_path, monkeypatch):
    digests = PlanDigests()
    before = [[job.key for job in cell.jobs] for cell in expand_plan(plan, digests)]
    (tmp_path / "text.txt").unlink()
    monkeypatch.setattr("edgesdk_converters.sweeps.expand_plan.open_checkpoint", None)
    assert [[job.key for job in cell.jobs] for cell in expand_plan(plan, digests)] == before


def test_a_source_that_cannot_be_read_is_rows(plan):
    gone = dataclasses.replace(plan, sources=(*plan.sources, PlannedSource("gone", "nowhere.gguf")))
    cells = [cell for cell in expand_plan(gone) if cell.source == "gone"]
    assert len(cells) == 4
    assert all(cell.error and "nowhere.gguf" in cell.error and not cell.jobs for cell in cells)


def test_what_a_target_refuses_is_rows(plan):
    mixed = dataclasses.replace(plan, recipes=("f32", "p4"))
    found = {cell.recipe: cell.error for cell in expand_plan(mixed) if cell.task == "convert"}
    assert found["f32"] is None
    assert "coreml" in found["p4"]
    check_plan(mixed)
    with pytest.raises(UnsupportedOption, match="no cell of the plan can be converted"):
        check_plan(dataclasses.replace(plan, recipes=("p4",)))


def test_a_job_survives_its_text(plan):
    for cell in expand_plan(plan):
        for each in cell.jobs:
            assert Job.from_text(each.to_text()) == each
    with pytest.raises(UnsupportedOption, match="no job"):
        Job.from_text("{}")
