"""Configurations: published ones are understood, both rotary styles agree, anything unknown is named."""

import copy
import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import ARCHITECTURES, read_spec
from tests.converters.architectures.published_configs import (
    ERNIE,
    GEMMA,
    GRANITE,
    GRANITE4,
    INTERNLM3,
    LATER,
)

# The decoder's part of published configurations, with the keys as they are spelled there.
SMOLLM2 = {
    "_name_or_path": "x", "architectures": ["LlamaForCausalLM"], "attention_bias": False,
    "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 576, "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
    "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False, "model_type": "llama",
    "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pad_token_id": 2,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
    "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {}}, "transformers_version": "4.42.3", "use_cache": True,
    "vocab_size": 49152,
}  # fmt: skip
LLAMA32 = {
    **SMOLLM2, "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32,
    "num_hidden_layers": 16, "num_key_value_heads": 8, "max_position_embeddings": 131072,
    "rope_theta": 500000.0, "vocab_size": 128256,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
}  # fmt: skip
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "sliding_window": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0", "use_cache": True, "vocab_size": 32000,
}  # fmt: skip
QWEN25 = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
    "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21,
    "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": None, "bos_token_id": 2, "cache_implementation": "hybrid",
    "eos_token_id": [1, 106], "final_logit_softcapping": None, "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "initializer_range": 0.02,
    "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text",
    "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
    "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
    "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0", "use_cache": True,
    "vocab_size": 262144,
}  # fmt: skip
PHI3 = {
    "_name_or_path": "x", "architectures": ["Phi3ForCausalLM"], "attention_bias": False,
    "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
    "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 4096,
    "model_type": "phi3", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.40.2",
    "use_cache": True, "vocab_size": 32064,
}  # fmt: skip
SMOLLM3 = {
    "architectures": ["SmolLM3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": None, "eos_token_id": 128012, "hidden_act": "silu", "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 11008, "layer_types": ["full_attention"] * 36,
    "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": False, "model_type": "smollm3",
    "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9, "num_attention_heads": 16,
    "num_hidden_layers": 36, "num_key_value_heads": 4, "pad_token_id": 128012, "pretraining_tp": 2,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None,
    "torch_dtype": "bfloat16", "transformers_version": "4.54.0.dev0", "use_cache": False,
    "use_sliding_window": False, "vocab_size": 128256,
}  # fmt: skip
PUBLISHED = [SMOLLM2, LLAMA32, MISTRAL, QWEN25, GEMMA3, PHI3, SMOLLM3, *LATER]


def without(config, *keys):
    return {k: v for k, v in config.items() if k not in keys}


def refused(config):
    with pytest.raises(CheckpointError) as caught:
        read_spec(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_smollm2():
    rotary = RotarySpec("default", 100000.0, 64)
    assert (
        read_spec(SMOLLM2)
        == UniformDecoder(
            architecture="llama",
            vocab_size=49152,
            hidden_size=576,
            ffn_size=1536,
            heads=9,
            kv_heads=3,
            head_size=64,
            context=8192,
            layers=(LayerSpec(None, rotary),) * 30,
            norm_eps=1e-5,
            activation="silu",
            attention_scale=0.125,
            tied_head=True,
        ).spec()
    )


def test_llama3_scaling():
    rotary = read_spec(LLAMA32).layers[0].rotary
    assert rotary == RotarySpec("llama3", 500000.0, 64, 32.0, 8192, 1.0, 4.0)


def test_windows_of_published_models():
    assert read_spec(MISTRAL).window == 4096
    assert read_spec({**MISTRAL, "sliding_window": None}).window is None
    assert read_spec(QWEN25).window is None  # use_sliding_window is false
    assert read_spec({**QWEN25, "use_sliding_window": True}).layers[20].window is None
    assert read_spec({**QWEN25, "use_sliding_window": True}).layers[21].window == 32768
    assert read_spec(PHI3).window == 2047
    assert read_spec({**PHI3, "sliding_window": 0}).window is None
    assert [i for i, layer in enumerate(read_spec(GEMMA3).layers) if layer.window is None] == [5, 11, 17, 23]


def test_gemma3():
    spec = read_spec(GEMMA3)
    assert spec.architecture == "gemma3"
    assert (spec.layers[0].qk_norm, spec.post_norms, spec.tied_head) == (True, True, True)
    assert spec.blocks[0].ffn.activation == "gelu_tanh"
    assert (spec.layers[0].scale, spec.embedding_scale) == (1 / 16, math.sqrt(1152))
    assert {layer.rotary.theta for layer in spec.layers if layer.window} == {10000.0}
    assert {layer.rotary.theta for layer in spec.layers if not layer.window} == {1000000.0}
    scaled = read_spec({**GEMMA3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}})
    assert {(layer.rotary.kind, layer.rotary.factor) for layer in scaled.layers if not layer.window} == {
        ("linear", 8.0)
    }
    assert {layer.rotary.kind for layer in scaled.layers if layer.window} == {"default"}


def test_gguf_calls_it_gemma3_and_huggingface_means_the_one_with_vision():
    assert read_spec({**GEMMA3, "model_type": "gemma3"}) == read_spec(GEMMA3)
    assert "several modalities" in refused({"model_type": "gemma3", "text_config": GEMMA3})


def test_smollm3_layers_without_rotation():
    for config in (SMOLLM3, without(SMOLLM3, "no_rope_layers", "layer_types")):
        spec = read_spec(config)
        assert [i for i, layer in enumerate(spec.layers) if layer.rotary is None] == list(range(3, 36, 4))
        assert spec.tied_head


def test_scales_of_granite():
    for config, logits, residual in ((GRANITE, 1 / 8, 0.22), (GRANITE4, 1 / 4, 0.263)):
        spec = read_spec(config)
        assert (spec.embedding_scale, spec.residual_scale, spec.logits_scale) == (12, residual, logits)
        assert {layer.scale for layer in spec.layers} == {1 / 64}
    assert {layer.rotary for layer in read_spec({**GRANITE4, "position_embedding_type": "nope"}).layers} == {
        None
    }


def test_dynamic_scaling_changes_nothing_within_the_declared_context():
    spec = read_spec(INTERNLM3)
    assert spec.layers[0].rotary == RotarySpec("default", 5e7, 128)
    assert spec.context == 32768


def test_old_gemma_files_say_gelu_and_mean_its_approximation():
    assert read_spec(GEMMA).blocks[0].ffn.activation == "gelu_tanh"


def test_partial_rotation_is_phi3s():
    assert read_spec({**PHI3, "partial_rotary_factor": 0.75}).layers[0].rotary.size == 72
    assert "partial_rotary_factor" in refused({**SMOLLM2, "partial_rotary_factor": 0.5})


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda c: c["model_type"])
def test_both_rotary_styles_say_the_same(config):
    old = {k: config[k] for k in ("rope_theta", "rope_scaling") if config.get(k) is not None}
    scaling = old.get("rope_scaling", {"rope_type": "default"})
    parameters = {**scaling, "rope_theta": old["rope_theta"]}
    if config["model_type"] == "gemma3_text":
        local = {"rope_type": "default", "rope_theta": config["rope_local_base_freq"]}
        parameters = {"full_attention": parameters, "sliding_attention": local}
    new = without(config, "rope_theta", "rope_scaling", "rope_local_base_freq")
    assert read_spec({**new, "rope_parameters": parameters}) == read_spec(config)


@pytest.mark.parametrize("config", [LLAMA32, GEMMA3], ids=lambda c: c["model_type"])
def test_both_rotary_styles_may_be_there_if_they_agree(config):
    scaling = config["rope_scaling"] or {"rope_type": "linear", "factor": 8.0}
    config = {**config, "rope_scaling": scaling}
    parameters = {**scaling, "rope_theta": config["rope_theta"]}
    if config["model_type"] == "gemma3_text":
        parameters = {"full_attention": parameters, "sliding_attention": {"rope_type": "default"}}
    assert read_spec({**config, "rope_parameters": parameters}) == read_spec(config)
    # transformers 5 lets rope_scaling win, whose base is config.rope_theta or the architecture's own
    if config["model_type"] == "llama":
        assert "rope_parameters" in refused({**without(config, "rope_theta"), "rope_parameters": parameters})


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda c: c["model_type"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("use_mrope", False), ("_flash_attn_2_enabled", True), ("num_experts", 0), ("alibi", False),
     ("pruned_heads", {}), ("auto_map", {}), ("quantization_config", {}),
     ("quantization_config", None), ("anything_new", None),
     ("logit_scale", 1.0), ("rope_parameters", {})],
)  # fmt: skip
def test_keys_that_change_nothing_are_harmless(config, key, value):
    assert read_spec({**config, key: value}) == read_spec(config)


def test_the_pattern_of_gemma3_is_what_transformers_reads():
    config = without(GEMMA3, "sliding_window_pattern")
    for changes, period in (
        ({}, 6),
        ({"sliding_window_pattern": 3}, 3),
        ({"_sliding_window_pattern": 3}, 6),
        ({"_sliding_window_pattern": 3, "sliding_window_pattern": 2}, 2),
    ):
        layers = read_spec({**config, **changes}).layers
        assert [i for i, layer in enumerate(layers) if layer.window is None] == list(
            range(period - 1, 26, period)
        )


def test_yarn():
    scaling = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    rotary = read_spec({**QWEN25, "rope_scaling": scaling}).layers[0].rotary
    assert (rotary.kind, rotary.factor, rotary.original_context) == ("yarn", 4.0, 32768)
    assert (rotary.beta_fast, rotary.beta_slow, rotary.truncate) == (32.0, 1.0, True)
    assert rotary.attention_factor == pytest.approx(0.1 * math.log(4) + 1)
    both = {**scaling, "mscale": 2.0, "mscale_all_dim": 0.5, "truncate": False, "beta_fast": 16}
    rotary = read_spec({**QWEN25, "rope_scaling": both}).layers[0].rotary
    assert rotary.attention_factor == pytest.approx((0.2 * math.log(4) + 1) / (0.05 * math.log(4) + 1))
    assert (rotary.truncate, rotary.beta_fast) == (False, 16.0)
    given_factor = {**both, "attention_factor": 1.5}
    assert read_spec({**QWEN25, "rope_scaling": given_factor}).layers[0].rotary.attention_factor == 1.5


def test_unknown_architecture_names_it_and_the_known_ones():
    message = refused({**SMOLLM2, "model_type": "opt"})
    assert "'opt'" in message
    for architecture in ARCHITECTURES:
        assert architecture.model_types[0] in message
    assert "model_type" in refused(without(SMOLLM2, "model_type"))


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda c: c["model_type"])
def test_unknown_key_is_named_with_its_value(config):
    message = refused({**config, "width_multiplier": 12.0})
    assert "'width_multiplier'" in message
    assert "12.0" in message


@pytest.mark.parametrize(
    ("model_type", "named"),
    [("lfm2_moe", "a mixture of experts"), ("qwen3_5_text", "no list of keys and values"),
     ("gpt-oss", "a mixture of experts"), ("gemma3n_text", "several residual streams"),
     ("gemma-embedding", "tokens that see the whole text"), ("modernbert", "as encoders have")],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused_as_what_it_is(model_type, named):
    message = refused({"model_type": model_type, "hidden_size": 64})
    assert f"{model_type!r} has " in message
    assert named in message


@pytest.mark.parametrize("section", [[16, 24], [16, 24, 25], [16, 24, True], [40, 56, -32], ["a", 1, 2]])
def test_sections_of_multimodal_rotation_fill_a_head(section):
    config = {**QWEN25, "model_type": "qwen2_5_vl_text", "hidden_size": 1792}  # heads of 128
    assert read_spec({**config, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}})
    assert "mrope_section" in refused({**config, "rope_scaling": {"type": "mrope", "mrope_section": section}})


def test_no_architecture_is_both_known_and_refused():
    from edgesdk_converters.checkpoints.refuse_unfit import UNFIT

    known = {model_type for a in ARCHITECTURES for model_type in a.model_types}
    assert not known & set(UNFIT)


@pytest.mark.parametrize(
    ("config", "change", "named"),
    [
        (SMOLLM2, {"quantization_config": {"bits": 4}}, "quantization_config"),
        (SMOLLM2, {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        (SMOLLM2, {"hidden_act": "gelu"}, "gelu_pytorch_tanh"),
        (SMOLLM2, {"rope_interleaved": True}, "rope_interleaved"),
        (SMOLLM2, {"sliding_window": 512}, "sliding_window"),
        (SMOLLM2, {"rope_scaling": {"type": "ntk", "factor": 2.0}}, "'ntk'"),
        (SMOLLM2, {"rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 50}}, "'alpha'"),
        (SMOLLM2, {"rope_scaling": {"type": "linear", "factor": 2.0, "wide": 1}}, "the key 'wide'"),
        (SMOLLM2, {"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2}}, "scaling.type"),
        (SMOLLM2, {"rope_scaling": {"type": "linear"}}, "'factor'"),
        (SMOLLM2, {"rope_scaling": {"type": "linear"}, "rope_parameters": {"rope_theta": 2}}, "'factor'"),
        (LLAMA32, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope_parameters"),
        (GEMMA3, {"rope_scaling": {"type": "linear", "factor": 8.0}}, "rope_type"),
        (GEMMA3, {"rope_scaling": {"rope_type": "linear", "factor": 8.0},
                  "rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_parameters"),
        (QWEN25, {"use_mrope": True}, "'use_mrope'"),
        (MISTRAL, {"attention_bias": True}, "'attention_bias'"),
        (SMOLLM2, {"rope_scaling": "linear"}, "an object"),
        (LLAMA32, {"rope_scaling": {**LLAMA32["rope_scaling"], "high_freq_factor": 1.0}}, "high_freq_factor"),
        (PHI3, {"rope_scaling": {"type": "longrope", "short_factor": [], "long_factor": []}}, "long_factor"),
        (PHI3, {"rope_scaling": {"type": "su", "short_factor": [], "long_factor": []}}, "list of 48"),
        (PHI3, {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "longrope"),
        (QWEN25, {"layer_types": ["full_attention"] * 23 + ["linear_attention"]}, "'linear_attention'"),
        (QWEN25, {"layer_types": ["full_attention"] * 23}, "24 items"),
        (QWEN25, {"layer_types": ["sliding_attention"] * 24}, "sliding_window"),
        (QWEN25, {"attention_bias": False}, "attention_bias"),
        (GEMMA3, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        (GEMMA, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (SMOLLM3, {"no_rope_layers": [2] * 36}, "no_rope_layers"),
        (INTERNLM3, {"qkv_bias": True}, "config.bias"),
        (GRANITE4, {"num_local_experts": 32}, "num_local_experts is 32"),
        (GRANITE4, {"layer_types": ["mamba"] * 27 + ["attention"]}, "Mamba layers are not supported"),
        (GRANITE4, {"position_embedding_type": "alibi"}, "position_embedding_type is 'alibi'"),
        (GEMMA, {"hidden_act": "silu"}, "hidden_act is 'silu'"),
        (ERNIE, {"mlp_bias": True}, "mlp_bias"),
        (SMOLLM2, {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        (SMOLLM2, {"hidden_size": 10**12}, "hidden_size"),
        (SMOLLM2, {"hidden_size": 577}, "no multiple"),
        (SMOLLM2, {"num_hidden_layers": "30"}, "an integer"),
        (SMOLLM2, {"num_key_value_heads": 2}, "9 query heads cannot share 2"),
        (SMOLLM2, {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        (SMOLLM2, {"rope_theta": float("inf")}, "rope_theta"),
        (SMOLLM2, {"rope_theta": 10**400}, "rope_theta"),
        (SMOLLM2, {"tie_word_embeddings": "yes"}, "true or false"),
        (SMOLLM2, {"head_dim": 63}, "even number"),
        (PHI3, {"partial_rotary_factor": 1e19}, "even number"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) and len(v) == 1 else "",
)  # fmt: skip
def test_unsupported_values_are_named(config, change, named):
    assert named in refused({**config, **change})


@pytest.mark.parametrize(
    ("config", "key"),
    [(MISTRAL, "sliding_window"), (GEMMA3, "head_dim"), (GEMMA3, "query_pre_attn_scalar"),
     (SMOLLM2, "vocab_size")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_sizes_are_never_guessed(config, key):
    assert key in refused(without(config, key))


def test_configurations_survive_json(any_tiny):
    config = json.loads(json.dumps(any_tiny.config))
    before = copy.deepcopy(config)
    assert read_spec(config) == any_tiny.program().spec
    assert config == before  # reading changes nothing


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["default", "linear", "llama3", "yarn", "silu", "sliding_attention"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["rope_type", "type", "factor", "rope_theta", "beta_fast", "beta_slow", "x",
                         "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
                         "mscale", "mscale_all_dim", "full_attention", "sliding_attention"]),
        inner, max_size=7,
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_value_gives_a_decoder_or_one_clear_line(data):
    config = dict(data.draw(st.sampled_from(PUBLISHED)))
    keys = st.sampled_from([*sorted(config), "rope_parameters", "head_dim", "layer_types"])
    for key in data.draw(st.lists(keys, min_size=1, max_size=3)):
        config[key] = data.draw(JSON)
    try:
        spec = read_spec(config)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert dataclasses.is_dataclass(spec)
        from edgesdk_converters.graph.rotary import inverse_frequencies

        for rotary in {layer.rotary for layer in spec.layers if layer.rotary and layer.rotary.size < 4096}:
            inverse_frequencies(rotary)
