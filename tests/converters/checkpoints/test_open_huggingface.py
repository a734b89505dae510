"""Directories in the layout of Hugging Face, whole and damaged."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16  # lets numpy hold what the tiny checkpoints store
from safetensors import deserialize
from safetensors.numpy import load_file, save_file

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.open_huggingface import open_huggingface

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
    assert "pytorch_model.bin: pickled weights are not read" in refused(llama)


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


def shift(folder, name, by=1.0):
    """Writes the tensors of a file again under another name, each number moved."""
    arrays = {n: a + bfloat16(by) for n, a in load_file(folder / "model.safetensors").items()}
    save_file(arrays, folder / name, {"format": "pt"})
    return arrays


def test_two_sets_of_safetensors_are_refused_by_name(llama):
    arrays = shift(llama, "model-00001-of-00001.safetensors")
    (llama / INDEX).write_text(
        json.dumps({"weight_map": dict.fromkeys(arrays, "model-00001-of-00001.safetensors")})
    )
    message = refused(llama)
    assert "two sets of weights: model.safetensors, and model-00001-of-00001.safetensors" in message


def test_an_index_left_over_is_not_read(llama):
    before = {name: open_huggingface(llama).tensors.load(name) for name in open_huggingface(llama).tensors}
    (llama / INDEX).write_text(
        json.dumps({"weight_map": dict.fromkeys(before, "model-00001-of-00002.safetensors")})
    )
    tensors = open_huggingface(llama).tensors
    assert set(tensors) == set(before)
    for name, values in before.items():
        np.testing.assert_array_equal(tensors.load(name), values)


def test_an_index_may_name_the_one_file(llama):
    names = list(open_huggingface(llama).tensors)
    (llama / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert [file.name for file in open_huggingface(llama).source.files] == ["model.safetensors"]


@pytest.mark.parametrize(
    "name",
    ["consolidated.safetensors", "model.fp8.safetensors", "model-awq.safetensors", "pytorch_model.bin"],
)
def test_other_weights_beside_are_not_read(llama, name):
    before = open_huggingface(llama).tensors.load("model.norm.weight")
    shift(llama, name)
    checkpoint = open_huggingface(llama)
    assert [file.name for file in checkpoint.source.files] == ["model.safetensors"]
    np.testing.assert_array_equal(checkpoint.tensors.load("model.norm.weight"), before)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("model-00001-of-00002.safetensors", "get the index"),
        ("consolidated.safetensors", "Mistral's own form"),
        ("model.fp16.safetensors", "rename it to model.safetensors"),
        ("flax_model.msgpack", "save it with save_pretrained"),
        ("model.gguf", "give that file itself"),
    ],
)
def test_weights_of_another_form_are_named_with_a_way_out(llama, name, advice):
    (llama / "model.safetensors").rename(llama / name)
    message = refused(llama)
    assert f"it has {name}" in message
    assert advice in message


def test_a_tensor_may_be_in_two_shards(sharded):
    index = json.loads((sharded / INDEX).read_text())["weight_map"]
    name, file = "model.norm.weight", index["model.norm.weight"]
    other = next(f for f in sorted(set(index.values())) if f != file)
    arrays = load_file(sharded / other)
    arrays[name] = load_file(sharded / file)[name]
    save_file(arrays, sharded / other, {"format": "pt"})
    assert set(open_huggingface(sharded).tensors) == set(index)
    arrays[name] = arrays[name] + arrays[name]
    save_file(arrays, sharded / other, {"format": "pt"})
    message = refused(sharded)
    assert name in message
    assert file in message
    assert other in message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}}, "AWQ to 4 bits"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3, "group_size": 128}}, "GPTQ to 3 bits"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"x": {}}}}, "GPTQ"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 100}}, "AWQ"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": True}}, "GPTQ"),
        ({"quantization_config": {"quant_method": "new", "bits": [4]}}, "new"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "float8"),
        ({"quantization": {"group_size": 64, "bits": 6}}, "MLX"),
        ({"quantization": {"group_size": 64, "bits": 4, "lm_head": {"bits": 8}}}, "MLX"),
        ({"quantization_config": "int4"}, "others"),
    ],
)
def test_quantised_weights_are_refused_with_a_way_out(llama, change, what):
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps({**config, **change}))
    message = refused(llama)
    assert f"holds weights quantised by {what}" in message
    assert "give the floating point checkpoint" in message


@pytest.mark.parametrize("value", [None, {}])
def test_an_empty_quantisation_key_is_absent(llama, value):
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps({**config, "quantization_config": value}))
    open_huggingface(llama)


def test_adapters_are_refused_with_a_way_out(llama):
    (llama / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "owner/base", "peft_type": "LORA"}'
    )
    assert "beside config.json: it holds an adapter (LoRA) of 'owner/base'; convert the model" in refused(
        llama
    )
    (llama / "config.json").unlink()
    assert "is no model: it holds an adapter (LoRA) of 'owner/base'; convert the model" in refused(llama)
    (llama / "adapter_config.json").write_text("{}")
    assert (
        "it holds an adapter (LoRA); convert the model that it was trained on, with --merge-adapter"
        in refused(llama)
    )


@pytest.mark.parametrize(
    "file", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]
)
def test_a_byte_order_mark_is_no_part_of_a_file(llama, file):
    before = open_huggingface(llama)
    (llama / file).write_bytes(b"\xef\xbb\xbf" + (llama / file).read_bytes())
    after = open_huggingface(llama)
    assert (after.config, after.generation, after.tokenizer) == (
        before.config,
        before.generation,
        before.tokenizer,
    )


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [("mistral", "use_bidirectional_attention", True), ("gemma3", "is_causal", False)],
)
def test_an_embedder_that_sees_the_whole_text_otherwise_is_refused_as_that(
    tmp_path, tiny_folder, model, key, value
):
    folder = Path(shutil.copytree(tiny_folder / model, tmp_path / "embedder"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    assert f"config.{key} is {value}: tokens of this model see the whole text" in refused(folder)
