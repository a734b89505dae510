"""The comparison with peers, with tiny bundles of ours and peers that fail."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgesdk_converters.convert import ConvertOptions, convert

TINY = Path(__file__).parents[1] / "data" / "tiny"
SMALL = ("--threads", "1", "--prefill", "32,40", "--decode", "8,40", "--new-tokens", "4", "--loads", "1")


@pytest.fixture(scope="module")
def peers(benchmark_module):
    return benchmark_module("peers")


@pytest.fixture(scope="module")
def report(benchmark_module):
    return benchmark_module("peer_report")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    options = ConvertOptions(("litert", "onnx"), ("w8-round",), 64, prove=False)
    return str(convert(str(TINY / "llama"), tmp_path_factory.mktemp("peers") / "bundle", options))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model")
    return str(path)


def test_ours_are_measured_and_peers_that_fail_are_rows(peers, bundle, source, tmp_path):
    out = tmp_path / "p.json"
    # This interpreter has no openvino_genai, so its worker ends at once, and no PyTorch to make models with.
    command = [bundle, "--source", source, *SMALL, "--rounds", "2", "--json", str(out)]
    command += ["--only", "edgesdk,openvino,genai,LiteRT-LM"]
    for peer in ("openvino-genai", "onnxruntime-genai", "litert-lm"):
        command += ["--peer-python", f"{peer}={sys.executable}"]
    done = CliRunner().invoke(peers.main, command)
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert "No module named 'openvino" in rows["openvino-genai GGUF"]["reason"]
    for peer in ("onnxruntime-genai int4", "LiteRT-LM"):
        reason = rows[peer]["reason"]
        assert reason == "transformers could not read it: ModuleNotFoundError: No module named 'torch'"
    for name in ("edgesdk litert-w8-round", "edgesdk onnx-w8-round"):
        row = rows[name]
        assert row["reason"] is None
        assert {kind: len(found) for kind, found in row["load_to_first_token_ms"].items()} == {
            "cold": 1,
            "warm": 1,
        }
        assert all(len(row["rounds"][p]["prefill_tokens_per_s"]) == 2 for p in ("8", "32", "40"))
        assert "decode_tokens_per_s" in row["rounds"]["40"]
        assert "decode_tokens_per_s" not in row["rounds"]["32"]
        assert row["file_bytes"] > 30_000
        assert row["roofline_share"]["40"] > 0
    assert f"openvino-genai GGUF: {rows['openvino-genai GGUF']['reason']}" in done.output


def test_one_that_dies_on_the_way_keeps_what_it_has(benchmark_module, peers, report, bundle):
    contender_module = benchmark_module("contender")
    settings = {"model": bundle, "variant": "litert-w8-round", "backend": "litert", "threads": 1}
    contender = contender_module.Contender(
        "ours", "edgesdk_worker.py", {**settings, "context": 64, "vocab_size": 288}
    )
    row = report.Row("ours", False)
    row.add(8, contender.measure(8, 2))
    contender.process.kill()
    with peers.failing_into(row):
        row.add(8, contender.measure(8, 2))
    contender.close()
    assert row.reason.startswith("ended with status -9")
    assert len(row.figures[8]["decode_tokens_per_s"]) == 1


def test_a_source_that_the_peer_refuses_is_its_reason(peers, bundle, source):
    command = [bundle, "--source", source, *SMALL, "--rounds", "1"]
    command += ["--only", "llama.cpp Q8_0", "--peer-python", f"llama.cpp={sys.executable}"]
    done = CliRunner().invoke(peers.main, command)
    assert done.exit_code == 0, done.output
    assert "llama.cpp Q8_0: " in done.output


def test_what_does_not_fit_is_one_line(peers, bundle, source):
    done = CliRunner().invoke(peers.main, [bundle, "--source", source, "--prefill", "32", "--decode", "64"])
    assert done.exit_code == 1
    assert "64 tokens do not fit the context of 64" in done.output
    done = CliRunner().invoke(peers.main, [bundle, "--source", source, "--prefill", "a,b"])
    assert done.exit_code == 2
    assert "'a,b' is no list of numbers" in done.output


def test_one_request_serves_prefill_and_decode(peers):
    assert peers.plan_requests((128, 512), (64, 512), 128, 600) == [(64, 128), (128, 0), (512, 87)]


def test_ratios_are_against_the_best_peer(report, capsys):
    rows = [report.Row("slow", True), report.Row("fast", True), report.Row("ours", False)]
    for row, rate in zip(rows, (50.0, 100.0, 250.0), strict=True):
        row.file_bytes = 10**8
        row.add(64, {"prefill_tokens_per_s": rate, "decode_tokens_per_s": rate, "ttft_ms": 1.0})
    report.show(rows, (64,), (64,), 4e10)
    out = capsys.readouterr().out
    assert "| ours | 250 (250 to 250) | 2.50 |" in out
    assert "| slow | 50 (50 to 50) | 0.50 | 12% |" in out


def test_the_machine_is_named(peers):
    named = peers.describe_machine(2, 3e10)
    assert "2 threads, memory 30.0 GB/s" in named
    assert "cores (" in named
