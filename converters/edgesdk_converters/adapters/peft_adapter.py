"""Reads an adapter in a directory as PEFT saves it: adapter_config.json and adapter_model.safetensors.

LoRA with scale alpha / r, rank-stabilised LoRA with alpha / sqrt(r), DoRA on linear layers, biases, and
modules that were trained as a whole (`modules_to_save`); see PEFT 0.19, `tuners/lora` and
`utils/save_and_load.py`. What else a configuration asks for is refused by the name of its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.adapters.adapter import Adapter, Float, LowRank, listed
from edgesdk_converters.adapters.peft_config import PeftConfig
from edgesdk_converters.checkpoints.digests import describe_file
from edgesdk_converters.checkpoints.refuse_derived import ADAPTER
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk_converters.checkpoints.text_file import read_json, read_optional_json
from edgesdk_converters.checkpoints.text_part import plain_name

WEIGHTS = "adapter_model.safetensors"
TRAINING = "training.json"
"""What `edgesdk train adapter` writes beside them."""
_PREFIX = "base_model.model."
_A, _B = (".lora_A.weight", ".lora_embedding_A"), (".lora_B.weight", ".lora_embedding_B")
_BIAS = ".lora_B.bias"
_MAGNITUDE = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
_PARTS = (*_A, *_B, _BIAS, *_MAGNITUDE)
# Names that PEFT wraps a module in, where a file has them.
_WRAPPERS = (".base_layer.", ".modules_to_save.")
_BARE = ("layers.", "embed_tokens", "norm.")


def read_peft_adapter(folder: Path) -> Adapter:
    """Opens the directory of an adapter.

    Raises:
        CheckpointError: a file is missing or damaged, or asks for something this version does not know.
    """
    config = PeftConfig.read(folder / ADAPTER, read_json(folder / ADAPTER))
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "; its pickled weights are not read, load it with peft and save it again" if pickled else ""
        raise CheckpointError(f"{folder} has no {WEIGHTS}{hint}")
    tensors = SafetensorsTensors([path])
    parts: dict[str, dict[str, str]] = {}
    given: dict[str, str] = {}  # module -> its name for PEFT, which is what patterns are for
    whole: dict[str, str] = {}
    for stored in tensors:
        name = stored.removeprefix(_PREFIX)
        ending = next((part for part in _PARTS if name.endswith(part)), None)
        if ending is None:
            for wrapper in _WRAPPERS:
                name = name.replace(wrapper, ".")
            key, known = _plain(name), whole
        else:
            module = _plain(name.removesuffix(ending))
            given[module] = name.removesuffix(ending)
            key, known = ending, parts.setdefault(module, {})
        if key in known:
            raise CheckpointError(f"{path.name} has {quoted(known[key])} and {quoted(stored)}; expected one")
        known[key] = stored
    reader = _Reader(path.name, tensors, config)
    low_rank = {
        f"{module}.weight": reader.read(module, given[module], found) for module, found in parts.items()
    }
    reader.check()
    if not low_rank and not whole:
        raise CheckpointError(f"{path.name} holds no tensor; it changes nothing")
    return Adapter(
        name=folder.resolve().name,
        dialect="huggingface",
        tensors=tensors,
        low_rank={name: change for name, change in low_rank.items() if change is not None},
        added={f"{module}.bias": found[_BIAS] for module, found in parts.items() if _BIAS in found},
        whole=whole,
        targets=config.targets,
        ties_head=config.ties_head,
        file=describe_file(path),
        vocabulary=_vocabulary(folder / TRAINING),
    )


def _vocabulary(path: Path) -> int | None:
    """What `edgesdk train adapter` notes of the model; PEFT notes nothing of the kind."""
    try:
        target = read_optional_json(path).get("target")
    except CheckpointError:  # another tool's file of that name
        return None
    found = target.get("vocab_size") if isinstance(target, dict) else None
    return found if type(found) is int else None


def _plain(name: str) -> str:
    """The name in a text-only checkpoint with a head; transformers' models without one have no `model.`."""
    plain = plain_name(name)
    return f"model.{plain}" if plain.startswith(_BARE) else plain


class _Reader:
    """Puts the parts of each module together, and gathers what is wrong with them."""

    def __init__(self, file: str, tensors: SafetensorsTensors, config: PeftConfig) -> None:
        self._file, self._tensors, self._config = file, tensors, config
        self._wrong: list[str] = []

    def read(self, module: str, given: str, found: dict[str, str]) -> LowRank | None:
        a, b = self._load(found, _A), self._load(found, _B)
        if a is None or b is None:
            side = "A" if a is None else "B"
            self._wrong.append(f"{module} has no lora_{side}")
            return None
        table = _A[1] in found
        if table and a.ndim == b.ndim == 2:
            a, b = b.T, a.T
        rank = self._config.rank(given)
        if a.ndim != 2 or b.ndim != 2 or not a.shape[0] == b.shape[1] == rank:
            self._wrong.append(f"{module} has {a.shape} and {b.shape} for rank {rank}")
            return None
        magnitude = self._load(found, _MAGNITUDE)
        if (magnitude is not None) != self._config.uses_dora:
            said = "lacks" if magnitude is None else "has"
            self._wrong.append(f"{module} {said} a lora_magnitude_vector")
            return None
        if magnitude is not None and (table or magnitude.shape != (b.shape[0],)):
            what = "DoRA of an embedding table" if table else f"magnitudes of shape {magnitude.shape}"
            self._wrong.append(f"{module} has {what}")
            return None
        return LowRank(a, b, self._config.scale(given), magnitude)

    def check(self) -> None:
        """Refuses the adapter if any module was wrong.

        Raises:
            CheckpointError: naming all that were.
        """
        if self._wrong:
            raise CheckpointError(f"{self._file} does not hold what {ADAPTER} says: {listed(self._wrong)}")

    def _load(self, found: dict[str, str], endings: Sequence[str]) -> Float | None:
        stored = next((found[ending] for ending in endings if ending in found), None)
        return None if stored is None else self._tensors.load(stored)
