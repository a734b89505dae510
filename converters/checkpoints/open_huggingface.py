"""Opens a directory in the layout of Hugging Face as a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from converters.checkpoints.checkpoint import Checkpoint, TokenizerFiles
from converters.checkpoints.digests import describe_file
from converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk.bundle.manifest import GenerationDefaults, Source, TokenizerRecord
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_JSON_LIMIT = 256 << 20  # tokenizers of 250k words have 30 MB

Json = Mapping[str, JsonValue]


def open_huggingface(
    folder: Path, *, location: str | None = None, revision: str | None = None, licence: str | None = None
) -> Checkpoint:
    """Opens a directory with config.json, safetensors and tokenizer.json.

    Args:
        folder: the directory.
        location: for the manifest; None for the directory's name.
        revision: hub commit, when there is one.
        licence: when the hub says.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    config = _read_json(folder / CONFIG)
    generation = _read_optional(folder / "generation_config.json")
    weights = _weight_files(folder)
    tensors = SafetensorsTensors(weights)
    _check_index(folder, tensors)
    name = location or folder.resolve().name
    return Checkpoint(
        name=name.rsplit("/", 1)[-1],
        config=config,
        dialect="huggingface",
        tensors=tensors,
        tokenizer=_tokenizer(folder, config, generation),
        generation=GenerationDefaults(
            temperature=_float(generation.get("temperature")),
            top_k=_id(generation.get("top_k")),
            top_p=_float(generation.get("top_p")),
            repetition_penalty=_float(generation.get("repetition_penalty")),
        )
        if generation.get("do_sample", True)
        else GenerationDefaults(),
        source=Source("huggingface", name, tuple(describe_file(path) for path in weights), revision),
        licence=licence,
    )


def _weight_files(folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        names = _index(folder).values()
        files = sorted({str(name) for name in names})
        for name in files:
            if Path(name).name != name:
                raise CheckpointError(f"{_INDEX} names {name[:80]!r}; expected a plain file name")
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} lacks {name}, which {_INDEX} names; download it again")
        return [folder / name for name in files]
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    others = sorted(p.name for pattern in ("*.bin", "*.pth", "*.pt") for p in folder.glob(pattern))
    hint = f" (it has {others[0]}; pickled weights are not read, save it as safetensors)" if others else ""
    raise CheckpointError(f"{folder} has neither {_WEIGHTS} nor {_INDEX}{hint}")


def _index(folder: Path) -> Json:
    index = _read_json(folder / _INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{_INDEX} of {folder} has no weight_map")
    return index


def _check_index(folder: Path, tensors: SafetensorsTensors) -> None:
    if not (folder / _INDEX).is_file():
        return
    for name, file in _index(folder).items():
        if name not in tensors or tensors.file_of(name) != file:
            raise CheckpointError(f"{_INDEX} puts {name!r} into {file}, which does not hold it")


def _tokenizer(folder: Path, config: Json, generation: Json) -> TokenizerFiles:
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json; save it with transformers' AutoTokenizer(...).save_pretrained"
        )
    document = _read_json(folder / "tokenizer.json")
    settings = _read_optional(folder / "tokenizer_config.json")
    ids = _token_ids(document)
    bos, eos = _token_text(settings.get("bos_token")), _token_text(settings.get("eos_token"))
    bos_id = ids.get(bos) if bos is not None else _id(config.get("bos_token_id"))
    record = TokenizerRecord(
        bos_id=bos_id,
        eos_ids=_eos_ids(generation, config, ids.get(eos) if eos is not None else None),
        add_bos=bos_id is not None and _adds_bos(document, settings, bos),
        bos_token=bos,
        eos_token=eos,
    )
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    return TokenizerFiles(text, _chat_template(folder, settings), record)


def _chat_template(folder: Path, settings: Json) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name: the one for chat is called "default"
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token_ids(document: Json) -> dict[str, int]:
    """Ids of added tokens and, for what is not among them, of the vocabulary."""
    ids: dict[str, int] = {}
    model = document.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        ids.update({text: i for text, i in vocabulary.items() if isinstance(i, int)})
    elif isinstance(vocabulary, list):  # Unigram: pairs of text and score
        pairs = enumerate(vocabulary)
        ids.update({str(pair[0]): i for i, pair in pairs if isinstance(pair, list) and pair})
    added = document.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            number = token.get("id")
            if isinstance(number, int):
                ids[str(token["content"])] = number
    return ids


def _token_text(value: JsonValue) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _eos_ids(generation: Json, config: Json, named: int | None) -> tuple[int, ...]:
    """Ends of generation: what generation_config says, else config, with the tokenizer's own end."""
    value = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = value if isinstance(value, list) else [value]
    found = [i for i in map(_id, ids) if i is not None]
    if named is not None and named not in found:
        found.append(named)
    return tuple(found)


def _adds_bos(document: Json, settings: Json, bos: str | None) -> bool:
    said = settings.get("add_bos_token")
    if isinstance(said, bool):
        return said
    # Otherwise the tokenizer's own template decides: its "single" sequence starts with the token.
    return bos is not None and bos in json.dumps(document.get("post_processor"), ensure_ascii=False)


def _id(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _float(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _read_optional(path: Path) -> Json:
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> Json:
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise CheckpointError(f"{path.name} is larger than {_JSON_LIMIT >> 20} MB; it will not be read")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:80]
        raise CheckpointError(f"{path} is not valid JSON ({reason})") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a {type(document).__name__}; expected an object")
    return document
