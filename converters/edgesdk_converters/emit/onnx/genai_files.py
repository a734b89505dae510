"""What onnxruntime-genai reads beside a model: its configuration and the tokenizer's files."""

from __future__ import annotations

import json

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.genai_config import GENAI_CONFIG_NAME, genai_config
from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import EmitError
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

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
        GENAI_CONFIG_NAME: _json(genai_config(model_name, spec, context, tokenizer.record, generation)),
        "tokenizer_config.json": _json(_tokenizer_config(tokenizer, context)),
        "tokenizer.json": tokenizer.tokenizer_json,
    }
    if tokenizer.chat_template is not None:
        files["chat_template.jinja"] = tokenizer.chat_template
    return files


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


def _json(value: JsonValue) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
