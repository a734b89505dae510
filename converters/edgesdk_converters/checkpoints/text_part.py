"""The text model inside a checkpoint of several modalities: configuration, tensors, and what is left out.

Such a checkpoint keeps the decoder's settings in `text_config` and its tensors under a prefix; towers for
images and sound lie beside it. transformers has moved the prefix over time (`language_model.model.`, then
`model.language_model.`). Embedding models are plain decoders whose tensors have no `model.` prefix at all.
It knows no architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.renamed_tensors import RenamedTensors

Config = Mapping[str, JsonValue]

_TEXT = "text_config"
_PREFIXES = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
    ("model.text_model.", "model."),
    ("text_model.", "model."),
)
_TOWERS = (
    "vision_tower", "vision_model", "vision_encoder", "visual", "vision_embed_tokens",
    "multi_modal_projector", "audio_tower", "audio_model", "embed_vision", "embed_audio",
    "connector", "image_newline",    "aligner", "mm_projector", "vision_projection",
)  # fmt: skip
_OWN = ("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "quantization_config")
# Of the wrapper; what it says of them is not what its text part is.
_OF_THE_WRAPPER = frozenset(
    {"model_type", "architectures", "dtype", "torch_dtype", "transformers_version", "initializer_range",
     "use_cache", "auto_map", "_name_or_path", "attn_implementation", "_attn_implementation", *_OWN}
)  # fmt: skip
# transformers leaves out of a nested configuration what its class has by default.
_DEFAULTS: Mapping[str, Config] = {
    "gemma3_text": {
        "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096,
    },
    "gemma4_text": {
        "vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 512,
        "vocab_size_per_layer_input": 262144, "hidden_size_per_layer_input": 256,
    },
    "llama": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    },
    "mistral": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6, "sliding_window": 4096,
    },
}  # fmt: skip
# Released files whose text settings stand among those of the wrapper -> `model_type` of the text part.
_FLAT = {"qwen2_5_vl": "qwen2_5_vl_text"}
_OF_TOWERS = ("vision_", "image_", "video_")
_EMBED, _FIRST = "embed_tokens.weight", "layers.0."


@dataclass(frozen=True)
class TextPart:
    """A plain decoder's configuration and tensors.

    Attributes:
        config: as in a text-only checkpoint.
        tensors: likewise.
        notes: what was left out, by name.
    """

    config: Config
    tensors: TensorStore
    notes: tuple[str, ...] = ()


def text_part(config: Config, tensors: TensorStore) -> TextPart:
    """Finds the text model of a checkpoint; one that is nothing else is returned as it is.

    Raises:
        CheckpointError: the wrapper contradicts its text part, or two tensors would have one name.
    """
    config = _nested(config)
    if _TEXT not in config:
        if _EMBED in tensors and any(name.startswith(_FIRST) for name in tensors):
            return TextPart(config, RenamedTensors(tensors, _unique((f"model.{n}", n) for n in tensors)))
        return TextPart(config, tensors)
    text = config[_TEXT]
    if not isinstance(text, dict):
        raise CheckpointError(f"config.{_TEXT} is {quoted(text)}, expected an object")
    kept = [(plain_name(name), name) for name in tensors if not _is_tower(name)]
    left = sorted({_tower(name) for name in tensors if _is_tower(name)})
    what = f"{config.get('model_type', 'a model')!s}"[:60]
    note = f"{what}: its text model alone was read" + (f", without {', '.join(left)}" if left else "")
    return TextPart(_merge(config, text), RenamedTensors(tensors, _unique(kept)), (note,))


def _nested(config: Config) -> Config:
    """A flat wrapper as transformers writes them now; any other configuration as it is."""
    kind = config.get("model_type")
    if _TEXT in config or "vision_config" not in config or str(kind) not in _FLAT:
        return config
    text = {key: value for key, value in config.items() if not key.startswith(_OF_TOWERS)}
    return {"model_type": kind, _TEXT: {**text, "model_type": _FLAT[str(kind)]}}


def _merge(config: Config, text: Config) -> Config:
    defaults = _DEFAULTS.get(str(text.get("model_type")), {})
    own = {key: config[key] for key in _OWN if config.get(key) is not None}
    merged = {**defaults, **own, **text}
    for key in config.keys() & text.keys():
        if config[key] not in (None, text[key]) and text[key] is not None and key not in _OF_THE_WRAPPER:
            raise CheckpointError(
                f"config.{key} is {quoted(config[key])}, but config.{_TEXT}.{key} is {quoted(text[key])}; "
                "one of them is wrong"
            )
    return merged


def plain_name(name: str) -> str:
    """The name that a text-only checkpoint has for a tensor of a checkpoint of several modalities."""
    for prefix, new in _PREFIXES:
        if name.startswith(prefix):
            return new + name.removeprefix(prefix)
    return name


def _tower(name: str) -> str:
    return name.removeprefix("model.").split(".", 1)[0]


def _is_tower(name: str) -> bool:
    return _tower(name) in _TOWERS


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for new, stored in pairs:
        if new in names:
            raise CheckpointError(f"the tensors {names[new]!r} and {stored!r} are both {new!r}; expected one")
        names[new] = stored
    return names
