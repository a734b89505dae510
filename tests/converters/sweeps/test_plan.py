import dataclasses
import time

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.sweeps.plan import EvaluateTask, read_plan


def test_a_plan_is_read_with_its_paths(write_plan, tmp_path):
    plan = read_plan(write_plan())
    assert plan.tasks == (EvaluateTask("evaluate", str(tmp_path / "text.txt"), tokens=120, window=40),)
    assert plan.cells == 2
    assert plan.transforms[0].name == "plain"


def test_what_a_transform_reads_is_beside_the_plan(write_plan, tmp_path):
    plan = read_plan(
        write_plan(
            transforms='[{ name = "small", prune_vocab = "corpus=text.txt,size=300" }, '
            '{ name = "merged", merge_adapters = ["lora:0.5"] }]'
        )
    )
    assert plan.transforms[0].prune_vocab == f"corpus={tmp_path / 'text.txt'},size=300"
    assert plan.transforms[1].merge_adapters == (str(tmp_path / "lora:0.5"),)


@pytest.mark.parametrize(
    ("changes", "tasks", "message"),
    [
        ({"recipes": "[]"}, None, "has no recipes"),
        ({"recipes": '["f32", "f32"]'}, None, "two recipes named 'f32'"),
        ({"recipes": '["a/x.json", "b/x.json"]'}, None, "two recipes named 'x'"),
        ({}, '[[tasks]]\nkind = "bench"\nname = "convert"\n', "a task is named 'convert'"),
        ({"speed": "1"}, None, "unknown key 'speed'"),
        ({"devices": '[{ name = "x", backend = "quantum" }]'}, None, "quantum"),
        ({"timeout_s": "0"}, None, "timeout_s is 0"),
        ({}, '[[tasks]]\nkind = "evaluate"\n', "lacks the key 'text'"),
        ({}, '[[tasks]]\nkind = "evaluate"\ntext = "gone.txt"\n', "'gone.txt' is not there"),
        ({}, '[[tasks]]\nkind = "guess"\n', "has the kind 'guess', expected prove, evaluate"),
        ({}, '[[tasks]]\nkind = "bench"\nrepeat = 0\n', "repeat is 0, expected at least 1"),
        ({}, '[[tasks]]\nkind = "harness"\ntasks = []\n', "names no task"),
        ({}, '[[tasks]]\nkind = "bench"\ntext = "x"\n', "unknown key 'text'"),
        (
            {},
            '[[tasks]]\nkind = "evaluate"\ntext = "text.txt"\nshards = 2000000000\n',
            "shards is 2000000000",
        ),
        ({}, '[[tasks]]\nkind = "bench"\nrepeat = 0xffffffffffff\n', "expected at most"),
        (
            {},
            '[[tasks]]\nkind = "sustained"\nseconds = inf\n',
            "seconds is inf, expected above 0 and at most",
        ),
        ({}, '[[tasks]]\nkind = "harness"\ntasks = ["x"]\nnum_fewshot = -1\n', "expected at least 0"),
        ({"timeout_s": "inf"}, None, "timeout_s is inf"),
        ({"context": "0"}, None, "context is 0"),
        ({}, "[[tasks]\n", "is no TOML"),
        ({}, "", "lacks the key 'tasks'"),
    ],
)
def test_what_is_no_plan_is_one_line(write_plan, changes, tasks, message):
    path = write_plan(**({} if tasks is None else {"tasks": tasks}), **changes)
    with pytest.raises(UnsupportedOption, match=message.replace("[", r"\[")) as raised:
        read_plan(path)
    assert "\n" not in str(raised.value)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(UnsupportedOption, match="cannot be read"):
        read_plan(tmp_path / "plan.toml")


def test_plans_are_frozen(write_plan):
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_plan(write_plan()).name = "other"


def test_the_plan_in_the_documents_is_one(tmp_path, request):
    page = (request.config.rootpath / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (tmp_path / "plan.toml").write_text(page.partition("```toml")[2].partition("```")[0], encoding="utf-8")
    (tmp_path / "book.txt").write_text("a book", encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    plan = read_plan(tmp_path / "plan.toml")
    assert {task.kind for task in plan.tasks} == {"prove", "evaluate", "bench", "sustained", "harness"}
    assert plan.cells == 2 * 3 * 2 * 5
    assert plan.sources[0].path == "smollm2-135m"


def test_a_long_plan_is_checked_in_no_time(write_plan):
    recipes = ", ".join(f'"{i:x}"' for i in range(60_000))
    before = time.process_time()
    assert read_plan(write_plan(recipes=f"[{recipes}]")).cells == 60_000
    assert time.process_time() - before < 10  # every name with every other: minutes
