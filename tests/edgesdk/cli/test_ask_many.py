import json

import pytest

TEXT = "Anna opens the meeting. The budget is 400."


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "meeting.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def asked(tiny_bundle, text):
    common = ("ask-many", tiny_bundle, "--variant", "litert-f32", "--context", text)
    schema = text.parent / "schema.json"
    schema.write_text(json.dumps({"enum": ["yes", "no"]}))
    return (*common, "--json-schema", schema, "--instruction", "Say.", "--temperature", "0")


def test_answers_go_to_stdout_in_order(edgesdk, asked, tmp_path):
    (tmp_path / "q.txt").write_text("Who?\n\n  When? \n")
    result = edgesdk(*asked, "--query", "What?", "--queries", tmp_path / "q.txt", "--max-tokens", "8")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[::2] == ["1. What?", "2. Who?", "3. When?"]
    assert {line.strip() for line in lines[1::2]} <= {'"yes"', '"no"'}
    assert "3 answers in " in result.err
    assert "in separate calls" in result.err


@pytest.mark.parametrize("mode", ["fork", "single"])
def test_json_is_one_document(edgesdk, asked, mode):
    found = edgesdk(
        *asked, "--query", "A?", "--query", "B?", "--mode", mode, "--max-tokens", "8", "--json"
    ).json
    assert [a["query"] for a in found["answers"]["answers"]] == ["A?", "B?"]
    assert {a["how"] for a in found["answers"]["answers"]} == {mode}
    assert {a["value"] for a in found["answers"]["answers"]} <= {"yes", "no"}
    assert found["receipt"]["variant"] == "litert-f32"


def test_what_has_no_whole_answer_says_so_and_is_exit_code_1(edgesdk, asked):
    result = edgesdk(*asked, "--query", "A?", "--max-tokens", "8", "--deadline", "0.001")
    assert result.code == 1
    assert "question 1, answered fork: the deadline has passed" in result.err
    assert result.out == "1. A?\n   -\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "there is no question; give --query or --queries"),
        (("--queries", "empty.txt"), 1, "has no questions, expected one a line"),
        (("--queries", "none.txt"), 1, "cannot be read"),
        (("--query", " "), 1, "query 1 is empty"),
        (("--query", "a", "--mode", "paper"), 1, "use mode constrained or fork"),
        (("--query", "a", "--max-tokens", "100"), 1, "room for 0 tokens of the text"),
    ],
)
def test_bad_input_is_one_line(edgesdk, asked, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    result = edgesdk(*asked, *arguments)
    assert result.code == code
    assert says in result.err
    assert result.out == ""
