"""Estimates against what conversions really take: bytes of bundles, memory of the process that converts."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.convert_memory import make_checkpoint, measure
from edgesdk.errors import CheckpointError, EmitError, TransformError, UnsupportedOption
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.estimate import estimate
from edgesdk_converters.reshape import Reshaping

TINY = Path(__file__).parents[1] / "data" / "tiny"
SIZES = {"layers": 2, "hidden": 512, "ffn": 2048, "words": 8192, "kv_heads": 4, "head": 64}
BYTES, MEMORY = 0.05, 0.35
"""How far estimates may be off, as a share of what was measured."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """12 million random weights in bfloat16."""
    return make_checkpoint(tmp_path_factory.mktemp("made") / "checkpoint", SIZES)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("targets", "recipes"),
    [
        (("litert", "onnx-step"), ("f32", "w8-round")),
        (("litert",), ("f16", "w4b32-round", "w4c-round")),
        (("onnx",), ("w8-round", "w4b32-round")),
    ],
)
def test_bytes_of_every_variant(checkpoint, tmp_path, targets, recipes):
    options = ConvertOptions(targets, recipes, context=256, prove=False)
    expected = estimate(str(checkpoint), options)
    folder = convert(str(checkpoint), tmp_path / "b", options)
    assert {variant.name for variant in expected.variants} == {
        p.name for p in (folder / "variants").iterdir()
    }
    for variant in expected.variants:
        found = size_of(folder / "variants" / variant.name)
        assert variant.size_bytes == pytest.approx(found, rel=BYTES), variant.name
    assert expected.bundle_bytes == pytest.approx(size_of(folder), rel=BYTES)
    assert expected.disk_bytes >= expected.bundle_bytes


def test_a_files_own_blocks(smollm2_gguf, tmp_path):
    """What blocks take in each target's form, of the real model, whose file is quantised."""
    options = ConvertOptions(("onnx-step",), ("source",), prove=False)
    (variant,) = estimate(str(smollm2_gguf), options).variants
    folder = convert(str(smollm2_gguf), tmp_path / "b", options)
    assert variant.size_bytes == pytest.approx(size_of(folder / "variants" / variant.name), rel=BYTES)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize(("recipe", "prove"), [("f32", False), ("w8-round", False), ("w8-round", True)])
def test_memory(checkpoint, tmp_path, monkeypatch, recipe, prove):
    options = ConvertOptions(("litert",), (recipe,), prove=prove, allow_parity_miss=True)
    expected = estimate(str(checkpoint), options).memory_bytes
    command = [sys.executable, "-m", "edgesdk", "convert", str(checkpoint), str(tmp_path / "b")]
    command += ["--target", "litert", "--recipe", recipe, "--allow-parity-miss"]
    command += ["--overwrite", *([] if prove else ["--no-prove"])]
    # Compiling modules, LiteRT's schema above all, takes 40 MB once: the second run is the one that counts.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    found = min(measure(command)["resident_mb"] for _ in range(2)) * (1 << 20)
    assert expected == pytest.approx(found, rel=MEMORY)


def test_time_follows_weights_and_what_is_done(checkpoint):
    def seconds(source, **options):
        return estimate(str(source), ConvertOptions(**options)).seconds

    rounded = seconds(checkpoint, recipes=("w8-round",), prove=False)
    assert rounded < seconds(checkpoint, recipes=("w8-round",)) < seconds(checkpoint, recipes=("w8",))
    assert seconds(TINY / "llama", recipes=("w8-round",), prove=False) < rounded


def test_nothing_is_written_or_read_but_headers(checkpoint, tmp_path, monkeypatch):
    from edgesdk_converters.checkpoints import safetensors_file

    monkeypatch.setattr(safetensors_file.SafetensorsTensors, "load", None)
    monkeypatch.setattr(safetensors_file.SafetensorsTensors, "load_rows", None)
    monkeypatch.chdir(tmp_path)
    found = estimate(str(checkpoint), ConvertOptions(recipes=("w8", "f32")))
    assert found.weights == sum(
        (8192 * 512, 512, 2 * (2 * 512 * 512 + 2 * 256 * 512 + 3 * 2048 * 512 + 2 * 512))
    )
    assert list(tmp_path.iterdir()) == []


def test_fewer_layers_are_counted(checkpoint):
    whole, half = (
        estimate(str(checkpoint), ConvertOptions(recipes=("f32",), reshaping=Reshaping(skip_layers=skipped)))
        for skipped in (None, "1")
    )
    assert whole.weights - half.weights == 2 * 512 * 512 + 2 * 256 * 512 + 3 * 2048 * 512 + 2 * 512


@pytest.mark.parametrize(
    ("ending", "rows"),
    [("", 280), (",output-only", 8192 + 280)],  # a table that was shared stays, beside a small head
)
def test_words_that_are_left_out_are_not_counted(checkpoint, tmp_path, ending, rows):
    (tmp_path / "text.txt").write_text("the quick brown fox", encoding="utf-8")
    reshaping = Reshaping(prune_vocab=f"corpus={tmp_path / 'text.txt'},size=280{ending}")
    whole, pruned = (
        estimate(str(checkpoint), ConvertOptions(("litert",), ("f32",), reshaping=each)).weights
        for each in (Reshaping(), reshaping)
    )
    assert whole - pruned == (8192 - rows) * 512


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("owner/name", {}, UnsupportedOption, "owner/name is not here yet, and an estimate fetches nothing"),
        ("owner/name:Q8_0", {}, UnsupportedOption, "is not here yet"),
        ("no such thing", {}, CheckpointError, "is no directory, no file, no hub id"),
        (str(TINY / "gemma4"), {"targets": ("onnx",)}, EmitError, "GroupQueryAttention takes one size"),
        (str(TINY / "llama"), {"recipes": ("w9",)}, UnsupportedOption, "recipe 'w9' is unknown"),
        (str(TINY / "cwm"), {"targets": ("litert",), "exits": "77"}, TransformError, "exits after 77 of 3"),
    ],
)
def test_what_convert_refuses_is_refused(source, options, error, message):
    with pytest.raises(error, match=message):
        estimate(source, ConvertOptions(**options))


def test_what_is_not_counted_is_said():
    options = ConvertOptions(("litert",), ("f32",), exits="2", prove=False)
    assert estimate(str(TINY / "cwm"), options).notes == ("exits are not counted",)


def test_the_command(checkpoint, tmp_path, capsys, monkeypatch):
    from edgesdk.cli.main import main

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert not ended.value.code
        return capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    arguments = ["convert", str(checkpoint), "out", "--recipe", "w8-round", "--estimate"]
    said = run(*arguments)
    assert "litert-w8-round" in said
    assert "MB of memory" in said
    document = json.loads(run(*arguments, "--json"))
    assert document["bundle_bytes"] < document["disk_bytes"]
    assert list(tmp_path.iterdir()) == []
