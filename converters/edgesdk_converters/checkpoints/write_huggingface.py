"""Writes a checkpoint as a directory in the layout of Hugging Face, which every tool of the field reads.

Tensors are float32: what a file of blocks or of bfloat16 holds is kept to the last bit. They go through
memory a file at a time. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from edgesdk.bundle.drafts import Draft
from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.checkpoint import Checkpoint

_FILE_BYTES = 1 << 30
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "exaone4": "Exaone4ForCausalLM",
    "seed_oss": "SeedOssForCausalLM",
    "ernie4_5": "Ernie4_5ForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
}
"""`architectures` by `model_type`: GGUF files do not say it, and llama.cpp's converter asks for it."""
Tensors = Iterator[tuple[str, npt.NDArray[np.float32]]]


def write_huggingface(
    checkpoint: Checkpoint, tensors: Tensors, folder: Path, records: Mapping[str, JsonValue]
) -> None:
    """Writes config.json, tokenizer, template, sampling defaults, model card and weights.

    Args:
        checkpoint: all but its weights.
        tensors: names of Hugging Face and arrays, in the order in which they are written.
        folder: must not exist, or be empty.
        records: further JSON documents by file name.

    Raises:
        CheckpointError: something is in the folder already.
        OSError: it cannot be written; nothing is left behind.
    """
    check_new_folder(folder)
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Draft(folder.parent) as draft:
        place = draft.path / "checkpoint"
        place.mkdir()
        config = {
            key: value for key, value in checkpoint.config.items() if key not in ("dtype", "torch_dtype")
        }
        named = _CLASSES.get(str(config.get("model_type")))
        if named is not None:
            config.setdefault("architectures", [named])
        documents: dict[str, object] = {
            "config.json": {**config, "torch_dtype": "float32"},
            "tokenizer_config.json": _tokenizer_config(checkpoint),
            **records,
        }
        generation = _generation(checkpoint)
        if generation:
            documents["generation_config.json"] = generation
        for name, document in documents.items():
            (place / name).write_text(
                json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        (place / "tokenizer.json").write_text(checkpoint.tokenizer.tokenizer_json, encoding="utf-8")
        if checkpoint.licence is not None:
            (place / "README.md").write_text(f"---\nlicense: {checkpoint.licence}\n---\n", encoding="utf-8")
        _write_tensors(tensors, place)
        if folder.exists():
            folder.rmdir()
        place.rename(folder)


def check_new_folder(folder: Path) -> None:
    """Refuses a place where a folder cannot appear.

    Raises:
        CheckpointError: something is there that is no empty folder.
    """
    # A link is refused, too: what is put in place takes the place of the link, not of what it names.
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise CheckpointError(f"{folder} is there already; name another folder")


def _write_tensors(tensors: Tensors, folder: Path) -> None:
    """Files of about a gigabyte, and an index if there are several."""
    files: list[list[str]] = []
    held: dict[str, npt.NDArray[np.float32]] = {}
    total = 0

    def write() -> None:
        save_file(held, folder / f"part-{len(files)}.safetensors", {"format": "pt"})
        files.append(list(held))
        held.clear()

    for name, array in tensors:
        if held and sum(each.nbytes for each in held.values()) + array.nbytes > _FILE_BYTES:
            write()
        held[name] = np.ascontiguousarray(array, np.float32)
        total += array.nbytes
    write()
    if len(files) == 1:
        (folder / "part-0.safetensors").rename(folder / "model.safetensors")
        return
    places: dict[str, str] = {}
    for number, names in enumerate(files):
        file = f"model-{number + 1:05}-of-{len(files):05}.safetensors"
        (folder / f"part-{number}.safetensors").rename(folder / file)
        places.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _tokenizer_config(checkpoint: Checkpoint) -> dict[str, JsonValue]:
    files, record = checkpoint.tokenizer, checkpoint.tokenizer.record
    found: dict[str, JsonValue] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": record.bos_token,
        "eos_token": record.eos_token,
        "add_bos_token": record.add_bos,
        "clean_up_tokenization_spaces": False,
    }
    if files.chat_template is not None and files.tool_template is not None:
        found["chat_template"] = [
            {"name": "default", "template": files.chat_template},
            {"name": "tool_use", "template": files.tool_template},
        ]
    elif files.chat_template is not None:
        found["chat_template"] = files.chat_template
    return found


def _generation(checkpoint: Checkpoint) -> dict[str, JsonValue]:
    """Recommended sampling, and where answers end."""
    said = to_json(checkpoint.generation)
    found = {key: value for key, value in said.items() if value is not None} if isinstance(said, dict) else {}
    if found.get("temperature"):
        found["do_sample"] = True
    return {**found, "eos_token_id": list(checkpoint.tokenizer.record.eos_ids)}
