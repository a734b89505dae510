"""Whole processes in turn: a tiny bundle against itself, and against itself under `--base`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgesdk_converters.convert import ConvertOptions, convert

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "data" / "tiny" / "llama"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    options = ConvertOptions(targets=("onnx",), recipes=("f32",), context=64, prove=False)
    return convert(str(SOURCE), tmp_path_factory.mktemp("turn") / "tiny", options)


@pytest.fixture
def run(benchmark_module):
    def invoke(*arguments):
        return CliRunner().invoke(benchmark_module("in_turn").main, [str(each) for each in arguments])

    return invoke


def test_every_figure_of_every_process_is_told(run, bundle, tmp_path):
    out = tmp_path / "rounds.json"
    found = run(
        *(f"onnx-f32={bundle}", "--base", ROOT, f"onnx-f32={bundle}"),
        *("--pairs", "1", "--prompt", "16", "--new", "4", "--json", out),
    )
    assert found.exit_code == 0, found.output
    document = json.loads(out.read_text())
    ((first, second),) = document["rounds"]
    assert first.keys() == second.keys() == {"first load", "load", "prompt", "decode"}
    assert all(wall > 0 and processor >= 0 for each in (first, second) for wall, processor in each.values())
    assert found.output.count("| onnx-f32 |") == 4  # two contenders, by wall and by processor time


def test_ratios_are_taken_within_a_round(benchmark_module):
    module = benchmark_module("in_turn")
    rounds = [
        [{"load": (slow, 1.0)}, {"load": (slow * times, 1.0)}] for slow, times in ((1, 2), (50, 3), (7, 4))
    ]
    assert module.ratios(rounds, 1, "load", 0) == (2.5, 3, 3.5)


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        (["onnx-f32=BUNDLE"], "one contender has nothing to be put over"),
        (["onnx-f32", "onnx-f32=BUNDLE"], "no VARIANT=BUNDLE"),
        (["onnx-w8=BUNDLE", "onnx-f32=BUNDLE"], "no variant 'onnx-w8' that runs here; found onnx-f32"),
        (["onnx-f32=/no/such", "onnx-f32=BUNDLE"], "such"),
    ],
)
def test_what_cannot_be_measured_is_one_line(run, bundle, variants, said):
    found = run(*(each.replace("BUNDLE", str(bundle)) for each in variants))
    assert found.exit_code == 1
    assert said in found.output
    assert "Traceback" not in found.output
