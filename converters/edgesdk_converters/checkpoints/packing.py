"""Which packing of 4-bit groups a configuration announces: AWQ's, GPTQ's or MLX's; None for all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.records import JsonValue
from edgesdk_converters.checkpoints.text_file import Json

Method = Literal["gptq", "awq", "mlx"]
_BITS = 4


@dataclass(frozen=True)
class Packing:
    """How linear layers of a checkpoint are packed.

    Attributes:
        method: whose layout it is.
        group: columns per scale; -1 for one group a row.
        zeros_less_one: GPTQ's zeros are kept less one.
    """

    method: Method
    group: int
    zeros_less_one: bool = True

    def __str__(self) -> str:
        """As a note for people."""
        return f"{self.method.upper()} weights in groups of {self.group} of 4 bits"


def read_packing(config: Json) -> Packing | None:
    """The packing that config.json announces, if its integers can be read as they are.

    Returns:
        None for weights that are not quantised, and for those that are in another way.
    """
    settings = config.get("quantization_config") or config.get("quantization")
    if not isinstance(settings, dict):
        return None
    group = settings.get("group_size", -1)
    if settings.get("bits", settings.get("w_bit")) != _BITS or type(group) is not int or not _is_group(group):
        return None
    method = settings.get("quant_method")
    if method == "gptq" and not settings.get("dynamic"):
        form = settings.get("checkpoint_format", "gptq")
        return Packing("gptq", group, form == "gptq") if form in ("gptq", "gptq_v2") else None
    if method == "awq" and str(settings.get("version", "gemm")).lower() == "gemm":
        return Packing("awq", group)
    if method is None and _is_mlx(settings) and group > 0:
        return Packing("mlx", group)
    return None


def _is_group(group: int) -> bool:
    return group == -1 or (group >= 16 and group & (group - 1) == 0)


def _is_mlx(settings: dict[str, JsonValue]) -> bool:
    """One setting for all layers; a newer file names its only mode."""
    return set(settings) <= {"group_size", "bits", "mode"} and settings.get("mode", "affine") == "affine"
