"""Sources of every kind, and sources that are none."""

import shutil
from pathlib import Path

import pytest

from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint


def refused(source):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_directory(tiny_folder):
    checkpoint = open_checkpoint(str(tiny_folder / "qwen2"))
    assert checkpoint.source.kind == "huggingface"
    assert checkpoint.source.location == "qwen2"


def test_a_gguf_file(tmp_path, gguf_from_tiny):
    checkpoint = open_checkpoint(str(gguf_from_tiny(tmp_path / "m.gguf", "llama")))
    assert checkpoint.source.kind == "gguf"
    assert checkpoint.source.location == "m.gguf"


@pytest.mark.real
def test_a_named_model_is_hashed_once(tmp_path, smollm2_gguf):
    told = []
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / smollm2_gguf.name).symlink_to(smollm2_gguf)
    checkpoint = open_checkpoint("smollm2-135m", cache_dir=tmp_path, progress=lambda *step: told.append(step))
    assert checkpoint.name == "SmolLM2-135M-Instruct"
    assert [step for step in told if step[1] == step[2]] == [told[-1]]


@pytest.mark.real
def test_a_directory_of_a_named_model_s_name(tmp_path, monkeypatch, smollm2_gguf, tiny_folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / smollm2_gguf.name).symlink_to(smollm2_gguf)
    folder = tmp_path / "smollm2-135m"
    folder.mkdir()  # as `convert smollm2-135m smollm2-135m` leaves it
    assert open_checkpoint("smollm2-135m", cache_dir=tmp_path).source.kind == "gguf"
    shutil.copytree(tiny_folder / "llama", folder, dirs_exist_ok=True)
    assert open_checkpoint("smollm2-135m", cache_dir=tmp_path).source.kind == "huggingface"


@pytest.mark.parametrize(
    "source",
    ["nonsense", "some/missing.gguf", "a/b/c", "", "x" * 5000, "owner/" + "y" * 300, "a\x00b", "a\nb"],
)
def test_sources_that_are_nothing(source):
    message = refused(source)
    named = "and no named model (smollm2-135m)"
    assert f"is no directory, no file, no hub id (owner/name or owner/name:Q8_0) {named}" in message
    assert len(message) < 500


def test_a_directory_without_a_checkpoint_says_what_it_has(tmp_path):
    assert "has no config.json" in refused(str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert f"did you mean {tmp_path / 'm.gguf'}?" in refused(str(tmp_path))


def test_other_files_are_refused(tmp_path, tiny_folder):
    weights = tiny_folder / "llama" / "model.safetensors"
    assert "give its folder" in refused(str(weights))
    (tmp_path / "m.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "not a GGUF file" in refused(str(tmp_path / "m.zip"))


def test_only_hub_ids_have_revisions(tmp_path):
    for source in (str(tmp_path), "smollm2-135m"):
        with pytest.raises(UnsupportedOption, match="no revision 'main'"):
            open_checkpoint(source, revision="main")


def test_absolute_paths_do_not_reach_the_manifest(tmp_path, gguf_from_tiny, tiny_folder):
    for source in (gguf_from_tiny(tmp_path / "m.gguf", "llama"), Path(tiny_folder / "llama")):
        checkpoint = open_checkpoint(str(source))
        assert "/" not in checkpoint.source.location
        assert all("/" not in file.name for file in checkpoint.source.files)
