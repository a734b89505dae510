"""The configuration of onnxruntime-genai, made from what a manifest says.

The emitter writes it beside a model, for whoever loads the folder with onnxruntime-genai alone. edgesdk never
hands that file on: it makes its own of the manifest, because the runtime loads native libraries and writes
files that its configuration names.

The model type is always `decoder`, which onnxruntime-genai takes for any plain decoder: types named
after architectures only switch on special cases that this emitter's models do not need.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import GenerationDefaults, TokenizerRecord
from edgesdk.bundle.records import JsonValue

GENAI_CONFIG_NAME = "genai_config.json"

_LOG_ERRORS_ONLY = 3  # ONNX Runtime warns on every load of the input that has a default


def genai_config(
    model_name: str,
    spec: DecoderSpec,
    context: int,
    tokenizer: TokenizerRecord,
    generation: GenerationDefaults,
) -> dict[str, JsonValue]:
    """The contents of `genai_config.json`.

    Args:
        model_name: file name of the model.
        spec: its shape.
        context: most tokens of a sequence.
        tokenizer: ids by role.
        generation: recommended sampling.

    Raises:
        BundleError: layers differ in their sizes, or share cells.
    """
    end, first_end = _ends(tokenizer.eos_ids)
    sampled, layer = bool(generation.temperature), spec.uniform
    return {
        "model": {
            "type": "decoder",
            "bos_token_id": first_end if tokenizer.bos_id is None else tokenizer.bos_id,
            "eos_token_id": end,
            "pad_token_id": first_end,
            "context_length": context,
            "vocab_size": spec.vocab_size,
            "decoder": {
                "filename": model_name,
                "hidden_size": spec.hidden_size,
                "head_size": layer.head_size,
                "num_attention_heads": layer.heads,
                "num_key_value_heads": layer.kv_heads,
                "num_hidden_layers": len(spec.layers),
                "session_options": {"log_severity_level": _LOG_ERRORS_ONLY, "provider_options": []},
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "max_length": context,
            "past_present_share_buffer": True,
            "do_sample": sampled,
            "temperature": _or(generation.temperature, 1.0),
            "top_k": int(_or(generation.top_k, 50)),
            "top_p": _or(generation.top_p, 1.0),
            "repetition_penalty": _or(generation.repetition_penalty, 1.0),
        },
    }


def _ends(ids: Sequence[int]) -> tuple[JsonValue, int]:
    """The end tokens as the runtime wants them, and the first of them."""
    return (ids[0] if len(ids) == 1 else list(ids)), (ids[0] if ids else 0)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
