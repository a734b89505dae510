"""Adapters at run time on SmolLM2-135M: what merging gives, each row of a batch by its own."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgesdk.bundle.reader import open_bundle
from edgesdk.engine.engine import Engine
from edgesdk.load_model import load
from edgesdk_converters.convert import ConvertOptions, convert
from tests.converters.adapters.conftest import random_tensors

pytestmark = pytest.mark.real

TEXT = "The plural of child is children, and that of mouse is"
GREEDY = {"max_tokens": 12, "temperature": 0.0}
SHAPES = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}


def write_adapter(folder, ends, seed):
    """Rank 8, on the products of these ends in every layer; large enough to change what is said."""
    modules = {f"model.layers.{i}.{end}": SHAPES[end] for i in range(30) for end in ends}
    tensors = {name: values * np.float32(0.2) for name, values in random_tensors(modules, 8, seed).items()}
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": [e.split(".")[1] for e in ends]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def bytes_of(folder):
    return sum(file.size_bytes for file in open_bundle(folder).manifest.files.values())


def test_run_time_is_merged_and_rows_are_apart(smollm2_gguf, tmp_path):
    every = write_adapter(tmp_path / "every", tuple(SHAPES), 1)
    some = write_adapter(tmp_path / "some", ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"), 2)
    options = {"targets": ("litert",), "recipes": ("f32",), "context": 128, "prove": False}
    convert(
        str(smollm2_gguf), tmp_path / "beside", ConvertOptions(adapters=(str(every), str(some)), **options)
    )
    choices = {None: (), "every": (str(every),), "some": (str(some),)}
    alone, size = {}, {}
    with load(tmp_path / "beside") as model:
        ids = model.tokenize(TEXT)
        found = {choice: model.score(ids, adapter=choice) for choice in choices}
    for choice, merged in choices.items():
        convert(
            str(smollm2_gguf),
            tmp_path / "merged",
            ConvertOptions(merge_adapters=merged, overwrite=True, **options),
        )
        size[choice] = bytes_of(tmp_path / "merged")
        with load(tmp_path / "merged") as model:
            expected = model.score(ids)
            alone[choice] = model.generate(TEXT, **GREEDY).tokens
        assert np.abs(found[choice] - expected).max() < 1e-4 * np.abs(expected).max()
    assert len(set(alone.values())) == 3
    own = sum(record.size_bytes for record in open_bundle(tmp_path / "beside").manifest.adapters)
    added = bytes_of(tmp_path / "beside") - size[None]
    # The rest are operators of the graphs: what stands between products that are fused is not stored.
    assert own < added < 1.05 * own
    with Engine(tmp_path / "beside", check_steps=True) as engine:
        running = [engine.submit(TEXT, adapter=choice, **GREEDY) for choice in choices for _ in range(2)]
        answers = [each.result().tokens for each in running]
    assert answers == [tokens for tokens in alone.values() for _ in range(2)]
