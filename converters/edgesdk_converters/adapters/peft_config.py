"""What adapter_config.json says of a LoRA, every key of it: read, knowingly ignored, or refused by name."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.text_file import Json

_READ = frozenset(
    {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
     "target_modules", "exclude_modules", "layers_to_transform", "init_lora_weights", "ensure_weight_tying"}
)  # fmt: skip
# Names, training, and what the tensors themselves show (bias, lora_bias, modules_to_save).
_IGNORED = frozenset(
    {"auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "revision",
     "task_type", "peft_version", "qalora_group_size", "eva_config", "runtime_config", "bias", "lora_bias",
     "modules_to_save", "layers_pattern"}
)  # fmt: skip
_OFF: tuple[JsonValue, ...] = (None, False, {}, [], "")
# How A was drawn; others change the model's own weights, which this file then does not say.
_STARTS: tuple[JsonValue, ...] = (True, False, None, "gaussian", "eva", "orthogonal")
_PLAIN = re.compile(r"\^?[\w.]{1,200}\$?")
_NUMBER = re.compile(r"\.(\d+)\.")
_MOST_PATTERNS, _MOST_RANK = 1 << 16, 1 << 16


@dataclass(frozen=True)
class PeftConfig:
    """How the tensors of an adapter are to be taken.

    Attributes:
        ranks: (pattern, rank) of modules that have another one than the rest.
        alphas: likewise.
        default_rank: r of the rest.
        default_alpha: lora_alpha of the rest.
        rank_stabilised: the scale is alpha / sqrt(r), not alpha / r.
        uses_dora: modules have magnitudes.
        ties_head: a change of a tied embedding table is one of the head, too.
        targets: whether a tensor of the model is to be changed; None if the configuration does not say.
    """

    ranks: tuple[tuple[str, float], ...]
    alphas: tuple[tuple[str, float], ...]
    default_rank: int
    default_alpha: float
    rank_stabilised: bool
    uses_dora: bool
    ties_head: bool
    targets: Callable[[str], bool] | None

    @classmethod
    def read(cls, path: Path, config: Json) -> PeftConfig:
        """Reads a configuration.

        Raises:
            CheckpointError: it is for another method than LoRA, or asks for something that is not known.
        """
        method = config.get("peft_type")
        if method != "LORA":
            what = "was not written by PEFT" if method is None else f"is of peft_type {quoted(method)}"
            raise CheckpointError(f"{path} {what}; expected LORA")
        for key, value in config.items():
            if key not in _READ and key not in _IGNORED and value not in _OFF:
                raise CheckpointError(
                    f"{path} asks for {quoted(key)}: {quoted(value)}, which is not known here; merge the "
                    "adapter with peft (merge_and_unload, then save_pretrained) and convert the result"
                )
        start = config.get("init_lora_weights", True)
        if not any(type(start) is type(known) and start == known for known in _STARTS):
            raise CheckpointError(
                f"{path} has init_lora_weights {quoted(start)}, which changes the model's own weights; save "
                "the adapter with path_initial_model_for_weight_conversion, or merge it with peft"
            )
        return cls(
            ranks=_pattern(path, config, "rank_pattern"),
            alphas=_pattern(path, config, "alpha_pattern"),
            default_rank=int(_positive(path, "r", config.get("r"), whole=True)),
            default_alpha=_positive(path, "lora_alpha", config.get("lora_alpha")),
            rank_stabilised=_flag(path, config, "use_rslora"),
            uses_dora=_flag(path, config, "use_dora"),
            ties_head=_flag(path, config, "ensure_weight_tying"),
            targets=_targets(path, config),
        )

    def rank(self, module: str) -> int:
        """r of a module."""
        return int(_of(self.ranks, module, self.default_rank))

    def scale(self, module: str) -> float:
        """By which `B A` of a module is multiplied."""
        alpha, rank = _of(self.alphas, module, self.default_alpha), self.rank(module)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def _of(patterns: tuple[tuple[str, float], ...], module: str, default: float) -> float:
    return next((value for pattern, value in patterns if _ends_with(module, pattern)), default)


def _ends_with(module: str, name: str) -> bool:
    """Whether a name is a module's, or the last parts of it; `^` and `$` are anchors, as in PEFT."""
    plain = name.strip("^$")
    return module == plain or (not name.startswith("^") and module.endswith(f".{plain}"))


def _pattern(path: Path, config: Json, key: str) -> tuple[tuple[str, float], ...]:
    found = config.get(key) or {}
    if not isinstance(found, Mapping) or len(found) > _MOST_PATTERNS:
        raise CheckpointError(f"{path} has {key} {quoted(found)}, expected an object")
    read = []
    for name, value in found.items():
        # Any regular expression may stand here; one of a stranger's may take for ever.
        if not _PLAIN.fullmatch(name):
            raise CheckpointError(f"{path} has {quoted(name)} in {key}, expected plain names of modules")
        read.append((name, _positive(path, f"{key} of {name}", value, whole=key == "rank_pattern")))
    return tuple(read)


def _positive(path: Path, key: str, value: JsonValue, *, whole: bool = False) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Compared as it is: an integer may be too large for a float.
    if not number or not 0 < value <= sys.float_info.max or (whole and type(value) is not int):  # type: ignore[operator]
        raise CheckpointError(f"{path} has {key} {quoted(value)}, expected a number above 0")
    assert isinstance(value, int | float)
    if whole and value > _MOST_RANK:
        raise CheckpointError(f"{path} has {key} {value}, expected at most {_MOST_RANK}")
    return float(value)


def _flag(path: Path, config: Json, key: str) -> bool:
    value = config.get(key)
    if value not in (None, True, False) or (isinstance(value, int | float) and not isinstance(value, bool)):
        raise CheckpointError(f"{path} has {key} {quoted(value)}, expected true or false")
    return bool(value)


def _names(path: Path, config: Json, key: str) -> tuple[str, ...] | None:
    """A list of names; None where there is none, or a regular expression, which is not followed."""
    found = config.get(key)
    if found is None or isinstance(found, str):
        return None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise CheckpointError(f"{path} has {key} {quoted(found)}, expected a list of names")
    return tuple(str(name) for name in found)


def _targets(path: Path, config: Json) -> Callable[[str], bool] | None:
    names, excluded = _names(path, config, "target_modules"), _names(path, config, "exclude_modules")
    if names is None or isinstance(config.get("exclude_modules"), str):
        return None
    layers = config.get("layers_to_transform")
    if layers is not None:
        numbers = layers if isinstance(layers, list) else [layers]
        if not all(type(number) is int for number in numbers):
            raise CheckpointError(f"{path} has layers_to_transform {quoted(layers)}, expected numbers")
        kept = frozenset(numbers)

    def wants(tensor: str) -> bool:
        module, _, kind = tensor.rpartition(".")
        if kind != "weight" or not any(_ends_with(module, name) for name in names):
            return False
        if any(_ends_with(module, name) for name in excluded or ()):
            return False
        number = _NUMBER.search(module)
        return layers is None or (number is not None and int(number[1]) in kept)

    return wants
