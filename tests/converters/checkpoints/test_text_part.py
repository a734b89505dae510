"""Wrappers of several modalities, and embedders, read as the plain decoders that they hold."""

import json
import shutil

import numpy as np
import pytest
from ml_dtypes import bfloat16  # lets numpy hold what the tiny checkpoints store
from safetensors.numpy import load_file, save_file

from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_huggingface import open_huggingface
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program


@pytest.fixture
def wrapper(tmp_path, tiny_folder):
    """A copy of Gemma 3 with its vision tower."""
    return shutil.copytree(tiny_folder / "gemma3-wrapper", tmp_path / "wrapper")


def rewrite(folder, rename):
    arrays = load_file(folder / "model.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(bfloat16)}
    save_file({rename(n): a for n, a in arrays.items()}, folder / "model.safetensors", {"format": "pt"})


def reconfigure(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def check_logits(folder, reference):
    checkpoint = open_huggingface(folder)
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    with np.load(reference) as file:
        cuts = np.cumsum(file["lengths"])[:-1]
        pairs = zip(np.split(file["tokens"], cuts), np.split(file["logits"], cuts), strict=True)
        for tokens, expected in pairs:
            found = next(sequence_logits(program, [tokens]))
            assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    return checkpoint


def test_towers_are_left_out_by_name(wrapper, tiny_folder):
    checkpoint = check_logits(wrapper, tiny_folder / "gemma3-wrapper" / "reference.npz")
    assert checkpoint.notes == (
        "gemma3: its text model alone was read, without multi_modal_projector, vision_tower",
    )
    assert checkpoint.tokenizer.record.eos_ids[0] == 2


def test_text_settings_may_stand_among_those_of_the_wrapper(tmp_path, tiny_folder):
    """As Qwen2.5-VL was released, with multimodal rotation under its old name."""
    folder = shutil.copytree(tiny_folder / "qwen2-5-vl", tmp_path / "flat")

    def flatten(config):
        text = config.pop("text_config")
        del text["layer_types"], text["rope_parameters"]
        config.update({**text, "model_type": "qwen2_5_vl", "rope_theta": 10000.0, "vision_token_id": 151654})
        config["rope_scaling"] = {"type": "mrope", "mrope_section": [2, 3, 3]}

    reconfigure(folder, flatten)
    checkpoint = check_logits(folder, tiny_folder / "qwen2-5-vl" / "reference.npz")
    assert checkpoint.notes == ("qwen2_5_vl: its text model alone was read, without visual",)


@pytest.mark.parametrize("prefix", ["model.language_model.", "model.text_model.", "text_model."])
def test_prefixes_of_other_versions(wrapper, tiny_folder, prefix):
    rewrite(wrapper, lambda name: name.replace("language_model.model.", prefix))
    check_logits(wrapper, tiny_folder / "gemma3-wrapper" / "reference.npz")


def test_what_a_nested_configuration_leaves_out_is_its_class_s_default(wrapper):
    reconfigure(wrapper, lambda config: config["text_config"].pop("query_pre_attn_scalar"))
    assert read_spec(open_huggingface(wrapper).config).layers[0].scale == 1 / 16
    reconfigure(wrapper, lambda config: config["text_config"].pop("hidden_size"))
    checkpoint = open_huggingface(wrapper)
    with pytest.raises(CheckpointError, match=r"has shape .*2304"):  # a default that is wrong shows
        weights_for(checkpoint, read_spec(checkpoint.config))


def _flat_of_no_type(config):
    del config["text_config"]
    config.update(model_type=["gemma4"], vision_config={})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda config: config.update(text_config="gemma"), "text_config is 'gemma', expected an object"),
        (lambda config: config.update(hidden_size=128), "hidden_size is 128, but"),
        (_flat_of_no_type, r"model_type"),
        (lambda config: config["text_config"].update(model_type="rwkv"), "'rwkv' is not known"),
        (lambda config: config["text_config"].update(wide=1), "the key 'wide'"),
    ],
)
def test_what_cannot_be_is_one_line(wrapper, change, match):
    reconfigure(wrapper, change)
    with pytest.raises(CheckpointError, match=match) as caught:
        read_spec(open_huggingface(wrapper).config)
    assert "\n" not in str(caught.value)


def test_tensors_that_are_no_known_tower_are_not_dropped(wrapper):
    rewrite(wrapper, lambda name: name.replace("vision_tower.", "side_tower."))
    checkpoint = open_huggingface(wrapper)
    with pytest.raises(CheckpointError, match=r"side_tower\.embeddings"):
        weights_for(checkpoint, read_spec(checkpoint.config))


def test_two_tensors_of_one_name_are_refused(wrapper):
    arrays = load_file(wrapper / "model.safetensors")
    arrays["model.norm.weight"] = arrays["language_model.model.norm.weight"].copy()
    save_file(arrays, wrapper / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"are both 'model\.norm\.weight'"):
        open_huggingface(wrapper)


def test_an_embedder_has_no_prefix(tmp_path, tiny_folder):
    folder = shutil.copytree(tiny_folder / "qwen3", tmp_path / "embedder")
    rewrite(folder, lambda name: name.removeprefix("model."))
    check_logits(folder, tiny_folder / "qwen3" / "reference.npz")
