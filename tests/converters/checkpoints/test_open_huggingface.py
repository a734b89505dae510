"""Directories in the layout of Hugging Face, whole and damaged."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import deserialize

from converters.checkpoints.open_huggingface import open_huggingface
from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.errors import CheckpointError

INDEX = "model.safetensors.index.json"


@pytest.fixture
def llama(tmp_path, tiny_folder):
    """A copy of a tiny checkpoint, to be damaged."""
    return Path(shutil.copytree(tiny_folder / "llama", tmp_path / "llama"))


@pytest.fixture
def sharded(tmp_path, tiny_folder):
    """The same in three files."""
    return Path(shutil.copytree(tiny_folder / "llama-untied-bias", tmp_path / "sharded"))


def refused(folder):
    with pytest.raises(CheckpointError) as caught:
        open_huggingface(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_directory(llama):
    checkpoint = open_huggingface(llama)
    assert checkpoint.name == checkpoint.source.location == "llama"
    assert checkpoint.dialect == "huggingface"
    assert checkpoint.config == json.loads((llama / "config.json").read_text())
    weights = (llama / "model.safetensors").read_bytes()
    (file,) = checkpoint.source.files
    assert (file.name, file.size_bytes) == ("model.safetensors", len(weights))
    assert file.sha256 == hashlib.sha256(weights).hexdigest()
    for name, tensor in deserialize(weights):
        bits = np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16
        np.testing.assert_array_equal(checkpoint.tensors.load(name).ravel(), bits.view(np.float32))
    assert checkpoint.licence is None


def test_shards(sharded):
    checkpoint = open_huggingface(sharded)
    index = json.loads((sharded / INDEX).read_text())["weight_map"]
    assert set(checkpoint.tensors) == set(index)
    assert [file.name for file in checkpoint.source.files] == sorted(set(index.values()))


def test_progress_of_hashing_is_told(llama):
    told = []
    open_huggingface(llama, progress=lambda *step: told.append(step))
    size = (llama / "model.safetensors").stat().st_size
    assert told[-1] == ("hashing model.safetensors", size, size)


def test_a_missing_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"lacks {shard.name}" in refused(sharded)


def test_a_truncated_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    os.truncate(shard, shard.stat().st_size - 1)
    assert shard.name in refused(sharded)


@pytest.mark.parametrize(
    "file", ["../x.safetensors", "/etc/passwd", "", "..", "x" * 300, "a\nb", 7, None, "a\x00b"]
)
def test_an_index_may_only_name_plain_files(sharded, file):
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"][next(iter(index["weight_map"]))] = file
    (sharded / INDEX).write_text(json.dumps(index))
    assert INDEX in refused(sharded)


def test_an_index_that_contradicts_the_files_is_refused(sharded):
    whole = json.loads((sharded / INDEX).read_text())
    files = sorted(set(whole["weight_map"].values()))
    for name, file in (("model.norm.weight", files[0]), ("model.other.weight", files[0])):
        (sharded / INDEX).write_text(json.dumps({"weight_map": {**whole["weight_map"], name: file}}))
        assert f"puts {name!r} into {file}" in refused(sharded)
    (sharded / INDEX).write_text("{}")
    assert "has no weight_map" in refused(sharded)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "config.json cannot be read"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("model.safetensors", "has neither model.safetensors"),
    ],
)
def test_missing_files_are_named(llama, file, message):
    (llama / file).unlink()
    assert message in refused(llama)


def test_pickled_weights_are_not_read(llama):
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    assert "pytorch_model.bin; pickled weights are not read" in refused(llama)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "text", [b"", b"[1]", b"{", b"null", b"\xff{}", b"[" * 10**5, b'{"a":' + b"9" * 5000]
)
def test_broken_json_is_one_line(llama, file, text):
    (llama / file).write_bytes(text)
    assert file in refused(llama)


def test_a_file_of_absurd_size_is_not_read(llama):
    with (llama / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than 16 MB" in refused(llama)


def test_sampling_settings(llama):
    file = llama / "generation_config.json"
    file.write_text(json.dumps({"temperature": 0.6, "top_k": 20, "top_p": 0.9, "do_sample": True}))
    checkpoint = open_huggingface(llama)
    assert (checkpoint.generation, checkpoint.notes) == (GenerationDefaults(0.6, 20, 0.9), ())
    file.write_text(json.dumps({"temperature": 0.6, "num_beams": 4}))
    checkpoint = open_huggingface(llama)
    assert checkpoint.generation == GenerationDefaults()
    assert [note.split(" of ")[0] for note in checkpoint.notes] == ["num_beams", "temperature"]
    file.write_text('{"temperature": NaN, "do_sample": true}')
    assert "generation_config.json has temperature nan, expected a number" in refused(llama)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("---\nlanguage:\n- en\nlicense: 'mit'\ntags: []\n---\n", "mit"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("# Model\nlicense: mit\n", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_is_what_the_model_card_says(llama, card, licence):
    (llama / "README.md").write_text(card)
    assert open_huggingface(llama).licence == licence
