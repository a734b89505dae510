"""Adapters that are damaged, contradict themselves, or ask for what is not known: one line each."""

import os

import numpy as np
import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.adapters.read_adapter import read_adapter
from tests.converters.adapters.conftest import ATTENTION, random_tensors
from tests.data.tiny_gguf import KINDS, write_gguf

FIRST = "base_model.model.model.layers.0.self_attn.q_proj"


def refused(path):
    with pytest.raises(CheckpointError) as raised:
        read_adapter(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"peft_type": "LOHA"}, "is of peft_type 'LOHA'; expected LORA"),
        ({"peft_type": None}, "was not written by PEFT; expected LORA"),
        ({"r": 0}, "has r 0, expected a number above 0"),
        ({"r": 2.5}, "has r 2.5, expected"),
        ({"r": 1 << 40}, "expected at most 65536"),
        ({"lora_alpha": float("nan")}, "has lora_alpha nan, expected"),
        ({"lora_alpha": 10**400}, "has lora_alpha 1000"),
        ({"r": 10**400}, "has r 1000"),
        ({"lora_alpha": "16"}, "has lora_alpha '16', expected"),
        ({"lora_alpha": True}, "has lora_alpha True, expected"),
        ({"use_rslora": 1}, "has use_rslora 1, expected true or false"),
        ({"use_dora": True}, "q_proj lacks a lora_magnitude_vector"),
        ({"fan_in_fan_out": True}, "asks for 'fan_in_fan_out': True, which is not known here"),
        ({"trainable_token_indices": [1]}, "asks for 'trainable_token_indices'"),
        ({"alora_invocation_tokens": [1]}, "asks for 'alora_invocation_tokens'"),
        ({"layer_replication": [[0, 1]]}, "asks for 'layer_replication'"),
        ({"target_parameters": ["w"]}, "asks for 'target_parameters'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa', which changes the model's own weights"),
        ({"init_lora_weights": 1}, "init_lora_weights 1"),
        ({"rank_pattern": {"(a+)+$": 4}}, "'(a+)+$' in rank_pattern, expected plain names"),
        ({"rank_pattern": [4]}, "has rank_pattern [4], expected an object"),
        ({"alpha_pattern": {"q_proj": -1}}, "alpha_pattern of q_proj -1, expected"),
        ({"rank_pattern": {"q_proj": 8}}, "q_proj has (4, 64) and (64, 4) for rank 8"),
        ({"target_modules": [1]}, "has target_modules [1], expected a list of names"),
        ({"layers_to_transform": "all"}, "has layers_to_transform 'all', expected numbers"),
    ],
)
def test_a_configuration_is_refused_by_its_key(write_adapter, settings, expected):
    assert expected in refused(write_adapter(**settings))


def test_patterns_are_for_the_names_that_peft_has(write_adapter):
    """Those of a model of several modalities, whose text part alone is converted."""
    module = "model.language_model.layers.0.self_attn.q_proj"
    for pattern in (module, f"^{module}$", "q_proj"):
        folder = write_adapter(random_tensors({module: (64, 64)}), alpha_pattern={pattern: 12})
        changes = read_adapter(folder).low_rank
        assert [change.scale for change in changes.values()] == [3.0]


def test_every_module_that_is_wrong_is_named(write_adapter):
    tensors = random_tensors(ATTENTION)
    del tensors[f"{FIRST}.lora_A.weight"]
    tensors["base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"] = np.zeros((32, 5), np.float32)
    text = refused(write_adapter(tensors))
    assert "layers.0.self_attn.q_proj has no lora_A" in text
    assert "layers.1.self_attn.v_proj has (4, 64) and (32, 5) for rank 4" in text


def test_rank_zero_and_nothing_at_all_are_refused(write_adapter):
    tensors = random_tensors(ATTENTION)
    tensors[f"{FIRST}.lora_A.weight"] = np.zeros((0, 64), np.float32)
    tensors[f"{FIRST}.lora_B.weight"] = np.zeros((64, 0), np.float32)
    assert "has (0, 64) and (64, 0) for rank 4" in refused(write_adapter(tensors))
    assert "holds no tensor" in refused(write_adapter({}))


def test_two_names_of_one_tensor_are_refused(write_adapter):
    tensors = random_tensors(ATTENTION)
    tensors["base_model.model.layers.0.self_attn.q_proj.lora_A.weight"] = np.ones((4, 64), np.float32)
    assert "expected one" in refused(write_adapter(tensors))


def test_folders_that_are_no_adapter(write_adapter, tmp_path):
    assert "has no adapter_config.json" in refused(tmp_path)
    folder = write_adapter()
    assert "one file of an adapter; give its folder" in refused(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickled weights are not read" in refused(folder)
    (folder / "adapter_config.json").write_text("[")
    assert "is not valid JSON" in refused(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "adapter.gguf")
    assert "is no plain file" in refused(tmp_path / "adapter.gguf")


@pytest.mark.parametrize("cut", [4, 100, -8])
def test_truncated_weights_are_refused(write_adapter, cut):
    path = write_adapter() / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    refused(path.parent)


def gguf_adapter(path, tensors, **said):
    def fill(writer):
        for key, value in {"general.type": "adapter", "adapter.type": "lora", **said}.items():
            add = writer.add_string if isinstance(value, str) else writer.add_float32
            add(key.replace("__", "."), value)

    return write_gguf(path, {name: (array, KINDS.F32) for name, array in tensors.items()}, fill)


PAIR = {
    "blk.0.attn_q.weight.lora_a": np.ones((4, 64), np.float32),
    "blk.0.attn_q.weight.lora_b": np.ones((64, 4), np.float32),
}


@pytest.mark.parametrize(
    ("tensors", "said", "expected"),
    [
        (PAIR, {"general.type": "model"}, "general.type of 'model'; expected 'adapter'"),
        (PAIR, {"adapter.type": "control"}, "adapter.type of 'control'; expected 'lora'"),
        (PAIR, {"adapter.lora.alpha": -1.0}, "adapter.lora.alpha -1.0; expected 0 or more"),
        (dict(list(PAIR.items())[:1]), {}, "only for blk.0.attn_q.weight"),
        ({"x.weight": np.ones(4, np.float32)}, {}, "changes no matrix"),
        ({**PAIR, "blk.0.attn_q.weight.lora_b": np.ones((64, 3), np.float32)}, {}, "as (4, 64) and (64, 3)"),
    ],
)
def test_gguf_files_are_refused(tmp_path, tensors, said, expected):
    assert expected in refused(gguf_adapter(tmp_path / "x.gguf", tensors, **said))


def test_scales_of_gguf_files(tmp_path):
    scale = {}
    for alpha in (0.0, 8.0):
        adapter = read_adapter(gguf_adapter(tmp_path / "x.gguf", PAIR, **{"adapter.lora.alpha": alpha}))
        scale[alpha] = adapter.low_rank["blk.0.attn_q.weight"].scale
    assert scale == {0.0: 1.0, 8.0: 2.0}
