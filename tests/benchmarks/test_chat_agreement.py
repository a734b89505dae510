import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgesdk_converters.convert import ConvertOptions, convert

SOURCE = Path(__file__).parents[1] / "data" / "tiny" / "llama"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    options = ConvertOptions(
        targets=("onnx", "litert"), recipes=("f32", "w4c-round"), context=128, prove=False
    )
    return convert(str(SOURCE), tmp_path_factory.mktemp("chats") / "tiny", options)


@pytest.fixture
def run(benchmark_module, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))

    def invoke(*more):
        out = tmp_path / "figures.json"
        arguments = [str(SOURCE), "--bundle", str(bundle), "--peers", "", "--questions", "12"]
        arguments += ["--threads", "1", "--json", str(out), *more]
        result = CliRunner().invoke(benchmark_module("chat_agreement").main, arguments)
        assert result.exit_code == 0, result.output
        return result.output, json.loads(out.read_text())["rows"]

    return invoke


def test_float32_answers_as_float32_and_four_bits_do_not(run):
    output, rows = run()
    found = {row["name"].split(" ")[0]: row for row in rows}
    for target in ("onnx", "litert"):
        exact, coarse = found[f"{target}-f32"], found[f"{target}-w4c-round"]
        assert exact["equal"] == exact["questions"] == 12
        assert exact["same_tokens"] > coarse["same_tokens"]
        assert coarse["share"] < 1
    assert "| onnx-f32 (onnxruntime) " in output
    assert "12 of 12" in output


def test_the_reference_answers_once(run, benchmark_module, monkeypatch):
    _, first = run()
    monkeypatch.setattr(benchmark_module("chat_agreement"), "answer_questions", None)
    assert run()[1] == first
