"""The commands that leave a model early, on a tiny bundle."""

import json
import os
from pathlib import Path

import pytest

TINY = Path(__file__).parents[2] / "data" / "tiny" / "cwm"


@pytest.fixture(scope="module")
def leaving(converted_once):
    return converted_once(
        str(TINY), targets=("litert",), recipes=("f32",), context=128, exits="2", prove=False
    )


def test_classify_prints_labels_and_how_early_texts_left(edgesdk, leaving, tmp_path):
    texts, shots = tmp_path / "texts.txt", tmp_path / "shots.jsonl"
    texts.write_text("one\n\ntwo\n")
    shots.write_text('{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n')
    asked = ("classify", leaving, texts, "--lines", "--labels", "a,b", "--examples", shots)
    done = edgesdk(*asked, "--early-exit", "fixed:2", "--json")
    assert done.code == 0
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["line"] for line in lines] == [1, 3]
    assert all(line["result"]["blocks"] == 2 for line in lines)
    assert "67% of blocks run" in done.err
    assert "(2 after 2)" in done.err
    plain = edgesdk(*asked)
    assert plain.code == 0
    assert "blocks" in plain.out
    assert "blocks run" not in plain.err


def test_run_and_bench_say_how_early_tokens_left(edgesdk, leaving):
    done = edgesdk("run", leaving, "ab", "--raw", "--max-tokens", 6, "--early-exit", "fixed:2", "--json")
    assert done.code == 0
    exits = done.json["completion"]["exits"]
    assert exits["exits"] == {"2": exits["filled"]}
    assert any("early exits: 67%" in note for note in done.json["receipt"]["notes"])
    small = ("--prompt-tokens", 8, "--new-tokens", 6, "--repeat", 1)
    report = edgesdk("bench", leaving, *small, "--early-exit", "fixed:2", "--json").json
    assert report["exits"]["figures"]["exits"] == {"2": 5}
    assert report["exits"]["figures"]["blocks_share"] == pytest.approx(2 / 3)
    assert "decode with exits" in edgesdk("bench", leaving, *small, "--early-exit", "top_prob:0.5").out


def test_train_exits_writes_a_rule_that_classify_takes(edgesdk, leaving, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra 'train'")
    task, rule = tmp_path / "task.jsonl", tmp_path / "rule.json"
    rows = [{"text": f"word {i * 37 % 101}", "label": "ab"[i % 2]} for i in range(70)]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = edgesdk("train", "exits", leaving, rule, "--task", task, "--shots", 1, "--threads", 1)
    assert done.code == 0, done.err
    assert "majority class" in done.out
    assert "over the labels" in done.out
    refused = edgesdk("run", leaving, "ab", "--raw", "--max-tokens", 2, "--early-exit", rule)
    assert refused.code == 1
    assert "the rule reads the chances of labels" in refused.error
    told = edgesdk("classify", leaving, "--labels", "a,b", "--early-exit", rule, stdin="word 5\n")
    assert told.code == 0
    assert "by a head over labels" in told.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--labels", "a"), "1 labels are given, expected 2"),
        (("--labels", "ax,ay"), "begin with the same token"),
        (("--labels", "a,b", "--early-exit", "fixed:9"), "leaves after block 9"),
        (("--labels", "a,b", "--early-exit", "none.json"), "the rule none.json cannot be read"),
        (("--labels", "a,b", "--early-exit", ""), "early_exit is '', expected a rule"),
        (("--labels", "a,b", "--examples", os.devnull), "has no texts"),
    ],
)
def test_what_classify_cannot_do_is_one_line(edgesdk, leaving, arguments, reason):
    done = edgesdk("classify", leaving, *arguments, stdin="text\n")
    assert done.code == 1
    assert reason in done.error
    assert "Traceback" not in done.err


def test_inspect_shows_the_exits(edgesdk, leaving):
    assert "after 2 of 3 blocks, with a head over labels" in edgesdk("inspect", leaving).out


def test_an_answer_of_one_token_says_no_empty_list_of_exits(edgesdk, leaving):
    done = edgesdk("run", leaving, "ab", "--raw", "--max-tokens", 1, "--early-exit", "fixed:2")
    assert done.code == 0
    assert "of the work" in done.err
    assert "()" not in done.err


@pytest.mark.parametrize("command", [("add",), ("adapter", "add"), ("classify",)])
def test_help_tells_json_lines_from_one_document(edgesdk, command):
    shown = " ".join(edgesdk(*command, "--help").out.split())
    assert "one JSON document" not in shown
    assert "JSON line" in shown
