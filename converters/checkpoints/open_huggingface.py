"""Opens a directory in the layout of Hugging Face as a checkpoint. It knows no architecture."""

from __future__ import annotations

import re
from pathlib import Path

from converters.checkpoints.checkpoint import Checkpoint
from converters.checkpoints.digests import Progress, describe_file
from converters.checkpoints.generation_defaults import generation_defaults
from converters.checkpoints.huggingface_tokenizer import read_huggingface_tokenizer
from converters.checkpoints.safetensors_file import SafetensorsTensors
from converters.checkpoints.text_file import read_json, read_optional_json
from edgesdk.bundle.manifest import Source
from edgesdk.errors import CheckpointError

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_LONGEST_FILE_NAME = 255
_MODEL_CARD, _CARD_LIMIT_BYTES = "README.md", 1 << 16
# The card's head is YAML; its licence is one line in every published one.
_LICENCE = re.compile(r"\A---\n(?:(?!---).*\n)*?license:[ \t]*['\"]?([\w.+-]{1,64})['\"]?[ \t]*\n")


def open_huggingface(
    folder: Path,
    *,
    location: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Opens a directory with config.json, safetensors and tokenizer.json.

    Args:
        folder: the directory.
        location: for the manifest; None for the directory's name.
        revision: hub commit, when there is one.
        progress: told how far hashing is.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    config = read_json(folder / CONFIG)
    generation = read_optional_json(folder / "generation_config.json")
    index = _read_index(folder)
    weights = _weight_files(folder, index)
    tensors = SafetensorsTensors(weights)
    for name, file in index.items():
        if name not in tensors or tensors.file_of(name) != file:
            raise CheckpointError(f"{_INDEX} puts {name[:80]!r} into {file}, which does not hold it")
    tokenizer = read_huggingface_tokenizer(folder, config, generation)
    recommended, notes = generation_defaults(generation)
    place = location or folder.resolve().name
    files = tuple(describe_file(path, progress) for path in weights)
    return Checkpoint(
        name=place.rsplit("/", 1)[-1],
        config=config,
        dialect="huggingface",
        tensors=tensors,
        tokenizer=tokenizer,
        generation=recommended,
        source=Source("huggingface", place, files, revision),
        licence=_licence(folder),
        notes=(*tokenizer.notes, *notes),
    )


def _weight_files(folder: Path, index: dict[str, str]) -> list[Path]:
    if index:
        for name in sorted(set(index.values())):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} lacks {name}, which {_INDEX} names; download it again")
        return [folder / name for name in sorted(set(index.values()))]
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    others = sorted(p.name for pattern in ("*.bin", "*.pth", "*.pt") for p in folder.glob(pattern))
    hint = f" (it has {others[0]}; pickled weights are not read, save it as safetensors)" if others else ""
    raise CheckpointError(f"{folder} has neither {_WEIGHTS} nor {_INDEX}{hint}")


def _read_index(folder: Path) -> dict[str, str]:
    """Tensor names and the files that hold them; empty for a checkpoint in one file."""
    if not (folder / _INDEX).is_file():
        return {}
    index = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{_INDEX} of {folder} has no weight_map")
    files: dict[str, str] = {}
    for name, file in index.items():
        if not isinstance(file, str) or not _is_plain(file):
            raise CheckpointError(f"{_INDEX} names {str(file)[:80]!r}; expected a plain file name")
        files[name] = file
    return files


def _is_plain(file: str) -> bool:
    return Path(file).name == file and len(file) <= _LONGEST_FILE_NAME and file.isprintable()


def _licence(folder: Path) -> str | None:
    """What the model card says, when there is one."""
    try:
        with (folder / _MODEL_CARD).open(encoding="utf-8", errors="replace") as card:
            found = _LICENCE.match(card.read(_CARD_LIMIT_BYTES))
    except OSError:
        return None
    return found.group(1) if found else None
