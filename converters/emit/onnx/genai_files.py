"""What onnxruntime-genai reads beside a model: its configuration and the tokenizer's files.

The model type is always `decoder`, which onnxruntime-genai takes for any plain decoder: types named
after architectures only switch on special cases that this emitter's models do not need.
"""

from __future__ import annotations

import json

from converters.checkpoints.checkpoint import TokenizerFiles
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import EmitError

_LOG_ERRORS_ONLY = 3  # ONNX Runtime warns on every load of the input that has a default
_TOKENIZER_CLASSES = {"BPE": "PreTrainedTokenizerFast", "Unigram": "XLMRobertaTokenizer"}


def genai_files(
    model_name: str,
    spec: DecoderSpec,
    context: int,
    tokenizer: TokenizerFiles,
    generation: GenerationDefaults,
) -> dict[str, str]:
    """Contents by file name: `genai_config.json`, the tokenizer's files, and the chat template.

    Raises:
        EmitError: onnxruntime-genai has no tokenizer of this kind.
    """
    files = {
        "genai_config.json": _json(genai_config(model_name, spec, context, tokenizer, generation)),
        "tokenizer_config.json": _json(_tokenizer_config(tokenizer, context)),
        "tokenizer.json": tokenizer.tokenizer_json,
    }
    if tokenizer.chat_template is not None:
        files["chat_template.jinja"] = tokenizer.chat_template
    return files


def genai_config(
    model_name: str,
    spec: DecoderSpec,
    context: int,
    tokenizer: TokenizerFiles,
    generation: GenerationDefaults,
) -> dict[str, JsonValue]:
    """The contents of `genai_config.json`."""
    record = tokenizer.record
    ends = list(record.eos_ids)
    end: JsonValue = list(ends) if len(ends) != 1 else ends[0]
    first_end = ends[0] if ends else 0
    sampled = bool(generation.temperature)
    return {
        "model": {
            "type": "decoder",
            "bos_token_id": first_end if record.bos_id is None else record.bos_id,
            "eos_token_id": end,
            "pad_token_id": first_end,
            "context_length": context,
            "vocab_size": spec.vocab_size,
            "decoder": {
                "filename": model_name,
                "hidden_size": spec.hidden_size,
                "head_size": spec.head_size,
                "num_attention_heads": spec.heads,
                "num_key_value_heads": spec.kv_heads,
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


def _tokenizer_config(tokenizer: TokenizerFiles, context: int) -> dict[str, JsonValue]:
    try:
        kind = json.loads(tokenizer.tokenizer_json)["model"]["type"]
        name = _TOKENIZER_CLASSES[kind]
    except (ValueError, TypeError, KeyError) as error:
        raise EmitError(
            f"onnxruntime-genai reads tokenizers of type {', '.join(_TOKENIZER_CLASSES)}, "
            f"this tokenizer.json has another ({str(error)[:60]})"
        ) from error
    record = tokenizer.record
    config: dict[str, JsonValue] = {
        "tokenizer_class": name,
        "add_bos_token": record.add_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    if record.bos_token is not None:
        config["bos_token"] = record.bos_token
    if record.eos_token is not None:
        config["eos_token"] = record.eos_token
    if tokenizer.chat_template is not None:
        config["chat_template"] = tokenizer.chat_template
    return config


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _json(value: JsonValue) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
