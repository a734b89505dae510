"""The speed of smaller bundles over the full one, on tiny ones."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.reshape import Reshaping

TINY = Path(__file__).parents[1] / "data" / "tiny"


@pytest.fixture(scope="module")
def speed(benchmark_module):
    return benchmark_module("vocabulary_speed")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, short_text):
    folder = tmp_path_factory.mktemp("speed")
    tokens = folder / "tokens.json"
    tokens.write_text('["a"]')
    made = {}
    for name, reshaping in (("full", Reshaping()), ("small", Reshaping(f"tokens={tokens}"))):
        targets = ("litert", "onnx") if name == "full" else ("litert",)
        options = ConvertOptions(
            targets, ("w8",), 64, prove=False, reshaping=reshaping, calibration=short_text
        )
        made[name] = str(convert(str(TINY / "llama"), folder / name, options))
    return made


def test_ratios_are_within_rounds(speed, bundles, tmp_path):
    command = [bundles["full"], bundles["small"], "--rounds", "2", "--threads", "1", "--prompt-tokens", "20"]
    command += ["--new-tokens", "8", "--json", str(tmp_path / "s.json")]
    done = CliRunner().invoke(speed.main, command)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert [(row["variant"], row["bundle"]) for row in rows] == [
        ("litert-w8", "full"),
        ("litert-w8", "small"),
    ]
    full, small = (row["decode_tokens_per_s"] for row in rows)
    assert full["ratio"] == full["ratio_least"] == full["ratio_most"] == 1
    ratios = [
        mine["decode_tokens_per_s"] / whole["decode_tokens_per_s"]
        for mine, whole in zip(rows[1]["rounds"], rows[0]["rounds"], strict=True)
    ]
    assert small["ratio"] == pytest.approx(sum(ratios) / 2)
    assert small["least"] <= small["median"] <= small["most"]


def test_bundles_without_a_common_variant_are_refused(speed, bundles):
    done = CliRunner().invoke(speed.main, [bundles["full"], bundles["small"], "--variants", "onnx-w8"])
    assert done.exit_code == 1
    assert "share no variant onnx-w8; they share litert-w8" in done.output
