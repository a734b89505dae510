"""Which files of a Hugging Face directory hold its weights, where there may be several sets.

As transformers decides (`modeling_utils`, 5.24): model.safetensors, else the shards of the index; pickled
files, Mistral's consolidated ones and variants such as model.fp16.safetensors beside them are not read. Two
whole sets of safetensors are refused, because loaders differ on which one is the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.text_file import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_LONGEST_FILE_NAME = 255
_RESAVE = "load it with transformers and save it with save_pretrained"
# Other files that may hold the weights, and what to do about each.
_OTHERS = (
    ("model-*-of-*.safetensors", f"shards without {INDEX}; get the index, or {_RESAVE}"),
    (
        "consolidated*.safetensors",
        f"Mistral's own form; take its Hugging Face form, or {_RESAVE}",
    ),
    (
        "model.*.safetensors",
        f"a variant of the weights; rename it to {WEIGHTS} to take it",
    ),
    ("*.safetensors", f"not named as transformers names them; rename it to {WEIGHTS} if it is the model"),
    ("*.gguf", "a GGUF file; give that file itself"),
    ("*.bin", "pickled weights are not read, save it as safetensors"),
    ("*.pth", "pickled weights are not read, save it as safetensors"),
    ("*.pt", "pickled weights are not read, save it as safetensors"),
    ("*.msgpack", f"Flax weights are not read, {_RESAVE}"),
    ("*.h5", f"TensorFlow weights are not read, {_RESAVE}"),
    ("*.npz", "MLX's old form is not read; take the repository that it was made from"),
    ("*.onnx", "an ONNX export, not a checkpoint; take the repository that it was made from"),
)


@dataclass(frozen=True)
class WeightFiles:
    """One set of weights.

    Attributes:
        paths: the files, sorted by name.
        index: tensor name -> name of the file that must hold it; empty for a set in one file.
    """

    paths: tuple[Path, ...]
    index: Mapping[str, str]


def find_weight_files(folder: Path) -> WeightFiles:
    """Finds the weights of a directory.

    Raises:
        CheckpointError: there are none that can be read, a shard is missing, or there are two sets.
    """
    index = _read_index(folder)
    shards = sorted(set(index.values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if (folder / WEIGHTS).is_file() and WEIGHTS not in shards:
        found = [name for name in shards if name not in missing]
        if found:
            raise CheckpointError(
                f"{folder} has two sets of weights: {WEIGHTS}, and {found[0]} with what else {INDEX} names; "
                "loaders differ on which is the model, so move one of them away"
            )
        return WeightFiles((folder / WEIGHTS,), {})  # an index left over, of shards that are gone
    if missing:
        raise CheckpointError(f"{folder} lacks {missing[0]}, which {INDEX} names; download it again")
    if shards:
        return WeightFiles(tuple(folder / name for name in shards), index)
    if (folder / WEIGHTS).is_file():
        return WeightFiles((folder / WEIGHTS,), {})
    raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}{_hint(folder)}")


def _hint(folder: Path) -> str:
    for pattern, advice in _OTHERS:
        others = sorted(path.name for path in folder.glob(pattern))
        if others:
            return f" (it has {others[0][:_LONGEST_FILE_NAME]}: {advice})"
    return ""


def _read_index(folder: Path) -> dict[str, str]:
    """Tensor names and the files that hold them; empty for a checkpoint in one file."""
    if not (folder / INDEX).is_file():
        return {}
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{INDEX} of {folder} has no weight_map")
    files: dict[str, str] = {}
    for name, file in index.items():
        if not isinstance(file, str) or not _is_plain(file):
            raise CheckpointError(f"{INDEX} names {str(file)[:80]!r}; expected a plain file name")
        files[name] = file
    return files


def _is_plain(file: str) -> bool:
    return Path(file).name == file and len(file) <= _LONGEST_FILE_NAME and file.isprintable()
