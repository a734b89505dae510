"""Checkpoints as models: converted once, found again, told apart."""

import json
import os
import shutil

import pytest

from edgesdk.cli import convert_once

ASK = ("x", "--max-tokens", 2)


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """A copy to alter."""
    folder = tmp_path / "work" / "Tiny Llama"
    shutil.copytree(tiny_checkpoint, folder)
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    return folder


def on_shelf(shelf):
    return sorted(path.name for path in shelf.iterdir()) if shelf.exists() else []


def test_a_folder_is_converted_once(edgesdk, checkpoint, shelf):
    first = edgesdk("run", checkpoint, *ASK)
    assert first.code == 0
    said = [line for line in first.err.splitlines() if line.startswith(str(checkpoint))]
    assert len(said) == 1
    assert "is converted with recipe w8-round and kept as tiny-llama-w8-round" in said[0]
    assert on_shelf(shelf) == ["tiny-llama-w8-round"]
    second = edgesdk("run", checkpoint, *ASK)
    assert second.out == first.out
    assert second.err.startswith(f"{checkpoint} was converted before: it is tiny-llama-w8-round\n")
    assert "quantising" not in second.err
    chat = edgesdk("chat", "tiny-llama-w8-round", stdin="")
    assert chat.code in (0, 1)  # the tiny model has no chat template
    assert "there is no" not in chat.err


def test_changed_weights_are_another_model_and_both_stay(edgesdk, checkpoint, shelf):
    edgesdk("run", checkpoint, *ASK)
    weights = next(checkpoint.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1  # one bit of one number
    weights.write_bytes(data)
    changed = edgesdk("run", checkpoint, *ASK)
    assert changed.code == 0
    assert "is converted with recipe w8-round and kept as tiny-llama-" in changed.err
    assert len(on_shelf(shelf)) == 2
    assert "was converted before" in edgesdk("run", checkpoint, *ASK).err
    assert len(on_shelf(shelf)) == 2


def test_parts_of_a_gguf_file_are_one_model(edgesdk, tmp_path, shelf):
    from tests.data.tiny_gguf import write_tiny_gguf

    first = write_tiny_gguf(tmp_path / "Tiny.gguf", "llama", tensors_per_part=9)
    assert "kept as tiny-w8-round" in edgesdk("run", first, *ASK).err
    assert "was converted before" in edgesdk("run", first, *ASK).err
    last = tmp_path / "Tiny-00003-of-00003.gguf"
    data = bytearray(last.read_bytes())
    data[-2] ^= 1  # one bit of one number
    last.write_bytes(data)
    assert "kept as tiny-" in edgesdk("run", first, *ASK).err
    assert len(on_shelf(shelf)) == 2
    last.unlink()
    lacking = edgesdk("run", first, *ASK)
    assert (lacking.code, lacking.out) == (1, "")
    assert f"{last.name} is not beside it; get all of them" in lacking.err.splitlines()[-1]


def test_a_touched_file_is_hashed_and_known_again(edgesdk, checkpoint, shelf):
    edgesdk("run", checkpoint, *ASK)
    os.utime(next(checkpoint.glob("*.safetensors")))
    assert "was converted before" in edgesdk("run", checkpoint, *ASK).err


def test_a_changed_configuration_converts_anew_in_the_same_place(edgesdk, checkpoint, shelf):
    edgesdk("run", checkpoint, *ASK)
    before = (shelf / "tiny-llama-w8-round" / "manifest.json").stat().st_mtime_ns
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "rope_theta": 5000.0}))
    os.utime(checkpoint / "config.json", ns=(before + 10**9, before + 10**9))
    assert "is converted with recipe" in edgesdk("run", checkpoint, *ASK).err
    assert on_shelf(shelf) == ["tiny-llama-w8-round"]
    assert (shelf / "tiny-llama-w8-round" / "manifest.json").stat().st_mtime_ns > before


def test_a_bundle_with_something_left_out_is_not_taken_for_it(edgesdk, checkpoint, shelf):
    options = ("--recipe", "w8-round", "--skip-layers", "1.mlp", "--allow-parity-miss", "--target", "litert")
    assert edgesdk("convert", checkpoint, "--name", "small", *options).code == 0
    assert "is converted with recipe" in edgesdk("run", checkpoint, *ASK).err
    assert on_shelf(shelf) == ["small", "tiny-llama-w8-round"]


def test_an_interruption_leaves_nothing(edgesdk, checkpoint, shelf, monkeypatch):
    def interrupt(self, progress):
        if progress.stage == "proving":
            raise KeyboardInterrupt

    monkeypatch.setattr(convert_once.ProgressLine, "__call__", interrupt)
    result = edgesdk("run", checkpoint, *ASK)
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1] == "interrupted"
    assert not shelf.exists()


def test_without_what_converts_the_command_is_named(edgesdk, checkpoint, shelf, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "edgesdk_converters.convert", None)

    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'gguf'", name="gguf")

    monkeypatch.setattr("builtins.__import__", _raising(missing))
    result = edgesdk("run", checkpoint, *ASK)
    assert result.error.endswith("install it with: pip install 'edgesdk[convert]'")
    assert not shelf.exists()


def _raising(missing):
    real = __import__

    def find(name, *arguments, **options):
        return missing() if name == "edgesdk_converters.convert" else real(name, *arguments, **options)

    return find


def test_convert_keeps_under_a_name_or_in_a_folder(edgesdk, tiny_checkpoint, shelf, tmp_path):
    quick = ("--recipe", "f32", "--target", "litert", "--no-prove")
    assert edgesdk("convert", tiny_checkpoint, "--name", "mine", *quick).code == 0
    assert edgesdk("convert", tiny_checkpoint, *quick).code == 0
    assert on_shelf(shelf) == ["llama-f32", "mine"]
    assert edgesdk("convert", tiny_checkpoint, tmp_path / "out", "--name", "x").code == 2
    assert "is no name for a model" in edgesdk("convert", tiny_checkpoint, "--name", "../x").error
    assert "mine holds a bundle" in edgesdk("convert", tiny_checkpoint, "--name", "mine").error


def test_a_file_that_is_not_there_is_named_as_a_file(edgesdk, shelf):
    run = edgesdk("run", "models/none.gguf", "x")
    assert run.code == 1
    assert run.err == "error: there is no file models/none.gguf; give the path of a .gguf file\n"
