"""Refuses what others have made of a checkpoint: quantised weights and adapters, with what to give instead.

edgesdk quantises floating point weights itself, and integers of another scheme would be rounded a second
time; so the way out is the repository that they were made from, or a GGUF file, whose blocks are kept.
Groups of 4 bits of AWQ, GPTQ and MLX are blocks as well, which `PackedTensors` reads.
"""

from __future__ import annotations

from pathlib import Path

from edgesdk.bundle.printable import printable
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.packing import Packing, read_packing
from edgesdk_converters.checkpoints.text_file import Json, read_json

ADAPTER = "adapter_config.json"
_METHODS = {
    "awq": "AWQ",
    "gptq": "GPTQ",
    "bitsandbytes": "bitsandbytes",
    "fp8": "float8",
    "fbgemm_fp8": "float8",
    "compressed-tensors": "compressed-tensors",
    "mxfp4": "MXFP4",
}
_LONGEST_NAME = 100


def refuse_derived(folder: Path, config: Json) -> Packing | None:
    """Checks that a directory holds a model's own weights, or packed ones that can be read as they are.

    Args:
        folder: the directory.
        config: its config.json.

    Returns:
        How the weights are packed; None for those that are not.

    Raises:
        CheckpointError: the weights are quantised, or an adapter lies beside them.
    """
    packing = read_packing(config)
    for key in ("quantization_config", "quantization"):
        settings = config.get(key)
        if settings not in (None, {}) and packing is None:
            raise CheckpointError(
                f"{folder} holds weights quantised by {_describe(settings)} (config.{key}); edgesdk "
                "quantises itself, so give the floating point checkpoint that they were made from, or a GGUF "
                "file of the model"
            )
    if (folder / ADAPTER).is_file():
        raise CheckpointError(
            f"{folder} has {ADAPTER} beside config.json: {_describe_adapter(folder)}, or move {ADAPTER} away "
            "if the weights have it already"
        )
    return packing


def refuse_adapter(folder: Path) -> None:
    """Says of a directory without config.json that it is an adapter, if it is one.

    Raises:
        CheckpointError: it is.
    """
    if (folder / ADAPTER).is_file():
        raise CheckpointError(f"{folder} is no model: {_describe_adapter(folder)}")


def _describe(settings: JsonValue) -> str:
    if not isinstance(settings, dict):
        return "others"
    method, bits = settings.get("quant_method"), settings.get("bits")
    if isinstance(method, str):
        name = _METHODS.get(method, printable(method[:_LONGEST_NAME]))
        return f"{name} to {bits} bits" if type(bits) is int and 0 < bits < 64 else name
    return "MLX in a form that is not its plain 4 bits" if "group_size" in settings else "others"


def _describe_adapter(folder: Path) -> str:
    base = read_json(folder / ADAPTER).get("base_model_name_or_path")
    of = f" of {base[:_LONGEST_NAME]!r}" if isinstance(base, str) and base else ""
    return (
        f"it holds an adapter (LoRA){of}; convert the model that it was trained on, with "
        f"--merge-adapter {printable(str(folder))}"
    )
