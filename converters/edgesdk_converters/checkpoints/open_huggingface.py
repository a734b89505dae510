"""Opens a directory in the layout of Hugging Face as a checkpoint. It knows no architecture."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from edgesdk.bundle.manifest import Source, SourceFile
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.dense_modules import WEIGHTS
from edgesdk_converters.checkpoints.digests import Progress, describe_file
from edgesdk_converters.checkpoints.generation_defaults import generation_defaults
from edgesdk_converters.checkpoints.huggingface_tokenizer import read_huggingface_tokenizer
from edgesdk_converters.checkpoints.lattice_tensors import LatticeTensors
from edgesdk_converters.checkpoints.packed_tensors import PackedTensors
from edgesdk_converters.checkpoints.refuse_derived import refuse_adapter, refuse_derived
from edgesdk_converters.checkpoints.refuse_unfit import refuse_encoder
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk_converters.checkpoints.sentence_transformer import read_sentence_transformer
from edgesdk_converters.checkpoints.text_file import read_json, read_optional_json
from edgesdk_converters.checkpoints.text_part import text_part
from edgesdk_converters.checkpoints.weight_files import INDEX, find_weight_files

CONFIG = "config.json"
_PACKED = ("quantization_config", "quantization")
_MODEL_CARD, _CARD_LIMIT_BYTES = "README.md", 1 << 16
# The card's head is YAML; its licence is one line in every published one.
_LICENCE = re.compile(r"\A---\n(?:(?!---).*\n)*?license:[ \t]*['\"]?([\w.+-]{1,64})['\"]?[ \t]*\n")


def open_huggingface(
    folder: Path,
    *,
    location: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    hashed: bool = True,
) -> Checkpoint:
    """Opens a directory with config.json, safetensors and tokenizer.json.

    Args:
        folder: the directory.
        location: for the manifest; None for the directory's name.
        revision: hub commit, when there is one.
        progress: told how far hashing is.
        hashed: whether the weight files get their digests, which reads them whole, and grids are looked for;
            empty ones and none if not.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are an adapter, or quantised in a way
            that is not read.
    """
    if not (folder / CONFIG).is_file():
        refuse_adapter(folder)
    config = read_json(folder / CONFIG)
    packing = refuse_derived(folder, config)
    generation = read_optional_json(folder / "generation_config.json")
    weights = find_weight_files(folder)
    tensors = SafetensorsTensors(list(weights.paths))
    for name, file in weights.index.items():
        if file not in tensors.files_of(name):
            raise CheckpointError(f"{INDEX} puts {name[:80]!r} into {file}, which does not hold it")
    part = text_part(config, tensors if packing is None else PackedTensors(tensors, packing))
    refuse_encoder(part.config)
    lattice = LatticeTensors(part.tensors) if hashed else None
    config = {key: value for key, value in part.config.items() if packing is None or key not in _PACKED}
    tokenizer = read_huggingface_tokenizer(folder, config, generation)
    sentences = read_sentence_transformer(folder, part.config)
    recommended, notes = generation_defaults(generation)
    place = location or folder.resolve().name

    def describe(path: Path) -> SourceFile:
        return describe_file(path, progress) if hashed else SourceFile(path.name, "", path.stat().st_size)

    dense = () if sentences is None else sentences.folders
    files = (
        *(describe(path) for path in weights.paths),
        *(replace(describe(each / WEIGHTS), name=f"{each.name}/{WEIGHTS}") for each in dense),
    )
    return Checkpoint(
        name=place.rsplit("/", 1)[-1],
        config=config,
        dialect="huggingface",
        tensors=part.tensors if lattice is None else lattice,
        tokenizer=tokenizer,
        generation=recommended,
        source=Source("huggingface", place, files, revision),
        licence=_licence(folder),
        embedding=None if sentences is None else sentences.record,
        projection=None if sentences is None else sentences.projection,
        notes=(
            *part.notes,
            *(() if packing is None else (str(packing),)),
            *(() if lattice is None else lattice.notes),
            *tokenizer.notes,
            *notes,
        ),
    )


def _licence(folder: Path) -> str | None:
    """What the model card says, when there is one."""
    try:
        with (folder / _MODEL_CARD).open(encoding="utf-8", errors="replace") as card:
            found = _LICENCE.match(card.read(_CARD_LIMIT_BYTES))
    except OSError:
        return None
    return found.group(1) if found else None
