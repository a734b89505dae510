"""The table of architectures, and the two questions asked of it: which decoder, and which weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.cwm import CWM
from edgesdk_converters.architectures.decoder_config import HARMLESS, IRRELEVANT
from edgesdk_converters.architectures.ernie import ERNIE4_5, HELIUM
from edgesdk_converters.architectures.exaone import EXAONE4
from edgesdk_converters.architectures.gemma import GEMMA, GEMMA2, GEMMA3, VAULTGEMMA
from edgesdk_converters.architectures.gemma4 import GEMMA4
from edgesdk_converters.architectures.granite import GRANITE, GRANITE_HYBRID, HYPERCLOVAX
from edgesdk_converters.architectures.hunyuan import HUNYUAN
from edgesdk_converters.architectures.lfm2 import LFM2
from edgesdk_converters.architectures.llama import INTERNLM3, IQUESTCODER, LLAMA
from edgesdk_converters.architectures.minicpm import MINICPM
from edgesdk_converters.architectures.mistral import MINISTRAL, MINISTRAL3, MISTRAL
from edgesdk_converters.architectures.olmo import OLMO2, OLMO3
from edgesdk_converters.architectures.phi3 import PHI3
from edgesdk_converters.architectures.qwen import QWEN2, QWEN3, QWEN25_VL
from edgesdk_converters.architectures.seed_oss import SEED_OSS
from edgesdk_converters.architectures.smollm3 import SMOLLM3
from edgesdk_converters.architectures.weight_map import WeightMap, map_weights
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.refuse_unfit import refuse_unfit

ARCHITECTURES: tuple[Architecture, ...] = (
    LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3, PHI3, SMOLLM3, INTERNLM3, IQUESTCODER, SEED_OSS, MINISTRAL,
    CWM, ERNIE4_5, HELIUM, GRANITE, GRANITE_HYBRID, GEMMA, VAULTGEMMA, HYPERCLOVAX, OLMO2, OLMO3, EXAONE4,
    HUNYUAN, MINICPM, MINISTRAL3, GEMMA4, QWEN25_VL, LFM2,
)  # fmt: skip

_BY_MODEL_TYPE = {model_type: a for a in ARCHITECTURES for model_type in a.model_types}
_BY_NAME = {a.name: a for a in ARCHITECTURES}


def read_spec(config: Mapping[str, JsonValue]) -> DecoderSpec:
    """Turns a checkpoint's configuration into a decoder.

    Args:
        config: with Hugging Face's keys, whichever file it came from.

    Returns:
        The decoder's shape.

    Raises:
        CheckpointError: the architecture, a key or a value is not known.
    """
    reader = ConfigReader(config)
    model_type = reader.text("model_type")
    refuse_unfit(model_type)
    if model_type not in _BY_MODEL_TYPE:
        raise CheckpointError(
            f"the architecture {model_type!r} is not known; known are {', '.join(_BY_MODEL_TYPE)}"
        )
    if "text_config" in config:
        raise CheckpointError(
            f"{model_type!r} with a text_config is a model of several modalities; "
            "convert a text-only checkpoint"
        )
    architecture = _BY_MODEL_TYPE[model_type]
    try:
        spec = architecture.read(reader)
    except ValueError as error:
        raise CheckpointError(f"the configuration describes no {model_type}: {error}") from error
    reader.finish(IRRELEVANT | architecture.irrelevant, HARMLESS)
    # Beyond its first context longrope turns all keys by other factors, those that are cached as well.
    ends = [m.rotary.original_context for m in spec.layers if m.rotary and m.rotary.kind == "longrope"]
    return replace(spec, context=min([spec.context, *ends]))


def weights_for(checkpoint: Checkpoint, spec: DecoderSpec) -> WeightMap:
    """Finds and checks every weight of a decoder in a checkpoint; reads none.

    Args:
        checkpoint: the opened checkpoint.
        spec: what `read_spec` made of its configuration.

    Returns:
        Its weights under canonical names.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or is there without being known.
    """
    return map_weights(checkpoint, spec, find_architecture(spec.architecture))


def find_architecture(name: str) -> Architecture:
    """An architecture by its own name, as `DecoderSpec` has it.

    Raises:
        CheckpointError: there is none of that name.
    """
    if name not in _BY_NAME:
        raise CheckpointError(f"the architecture {name!r} is not known; known are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
