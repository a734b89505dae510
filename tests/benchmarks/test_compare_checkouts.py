"""Two checkouts side by side: what counts as different, on this checkout's own answers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="needs the extra 'convert'")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compared(benchmark_module):
    return benchmark_module("compare_checkouts")


@pytest.fixture(scope="module")
def job(benchmark_module, tmp_path_factory):
    jobs = benchmark_module("checkout_jobs")
    return jobs.list_jobs(tmp_path_factory.mktemp("sources"), ["onnx-step"], ["f32"], ["qwen2"], [])[0]


@pytest.fixture(scope="module")
def found(compared, job, tmp_path_factory):
    """What this checkout answers in a process of its own."""
    answer = compared.run(ROOT, job, tmp_path_factory.mktemp("answers") / "here")
    assert not isinstance(answer, str), answer
    return answer


def test_a_checkout_is_like_itself(compared, job, found):
    row = next(compared.compare(job, found, found))
    assert row.name == ("qwen2", "f32", "onnx-step", "onnxruntime-step")
    assert not row.differs
    asked = found.rows["f32"]["backends"]["onnxruntime-step"]["answers"]
    assert {"model seeded", "engine together", "engine session"} <= asked.keys()
    assert all(isinstance(answer, list) for answer in asked.values())  # nothing was refused


def test_a_last_bit_of_logits_and_a_token_are_seen(compared, job, found):
    key = "f32|onnxruntime-step|whole"
    logits = found.logits[key].copy()
    logits[3, 5] = np.nextafter(logits[3, 5], np.float32(np.inf))
    other = dataclasses.replace(found, logits={**found.logits, key: logits})
    row = next(compared.compare(job, found, other))
    assert (row.weights, row.tokens) == ("", "")
    assert row.logits.startswith("whole by ")


def test_other_weights_are_seen_whatever_they_are_called(compared, job, found):
    row = found.rows["f32"]
    renamed = {digest: f"{name}_again" for digest, name in row["weights"].items()}
    assert not next(
        compared.compare(job, found, dataclasses.replace(found, rows={"f32": {**row, "weights": renamed}}))
    ).differs
    first, *rest = renamed
    changed = {**{digest: renamed[digest] for digest in rest}, "float32 0": renamed[first]}
    other = dataclasses.replace(found, rows={"f32": {**row, "weights": changed}})
    assert "1 old only" in next(compared.compare(job, found, other)).weights


def test_what_one_side_refuses_differs_and_what_both_refuse_does_not(compared, job, found):
    row = found.rows["f32"]
    refused = {**row, "backends": {**row["backends"], "onnxruntime-step": {"refused": "no"}}}
    other = dataclasses.replace(found, rows={"f32": refused})
    assert next(compared.compare(job, found, other)).logits == "ran / no"
    # Where OpenVINO is installed, too, it has a row of its own.
    rows = compared.compare(job, other, other)
    assert "onnxruntime-step" not in [name for each in rows for name in each.name]
    failed = dataclasses.replace(found, rows={"f32": {"failed": "error: no"}})
    assert next(compared.compare(job, found, failed)).differs
    assert not next(compared.compare(job, failed, failed)).differs
    assert next(compared.compare(job, found, "its process ended with 1")).differs


@pytest.mark.parametrize(("target", "pattern"), [("litert", "*.tflite"), ("coreml", "weight.bin")])
def test_arrays_of_the_other_formats_are_read(benchmark_module, tmp_path, target, pattern):
    benchmark_module("compare_checkouts")
    arrays = benchmark_module("workers.written_arrays").written_arrays
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(targets=(target,), recipes=("f16",), context=64, prove=False)
    folder = convert(str(ROOT / "tests/data/tiny/llama"), tmp_path / "bundle", options)
    before = arrays(folder)
    assert len(before) > 8  # of two layers and the table
    path = next(folder.rglob(pattern))
    data = bytearray(path.read_bytes())
    data[-4096] ^= 1  # in the last large array
    path.write_bytes(data)
    assert len(before.keys() - arrays(folder).keys()) == 1
