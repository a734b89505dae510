"""Gives a checkpoint the vocabulary of another language, and writes it as a checkpoint of its own.

What comes out is ordinary: `convert` reads it like any other, and so does every tool of the field. Nothing is
tuned here; how well each initialisation begins is the report's business.

Papers: PAPERS.md, section 8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import CheckpointError, TransformError
from edgesdk_converters.architectures.architecture import WeightNames
from edgesdk_converters.architectures.registry import find_architecture, read_spec, weights_for
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.write_huggingface import check_new_folder, write_huggingface
from edgesdk_converters.graph.weights import Weights
from edgesdk_converters.vocabulary.adapt.adapt_request import MOST_TOKENS, AdaptRequest
from edgesdk_converters.vocabulary.adapt.initialise import (
    Init,
    Mixture,
    Spelled,
    VectorsOf,
    mixture,
    new_rows,
)
from edgesdk_converters.vocabulary.adapt.plot_adaptation import plot_adaptation
from edgesdk_converters.vocabulary.adapt.train_tokenizer import (
    TargetTokenizer,
    check_byte_level,
    train_expansion,
    train_replacement,
)
from edgesdk_converters.vocabulary.adapt.word_vectors import train_vectors
from edgesdk_converters.vocabulary.count_tokens import read_blocks
from edgesdk_converters.vocabulary.required_tokens import remap_ids
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData

RECORD = "adaptation.json"
ORIGINS = "origins.json"
PLOT = "adaptation.svg"
_MOST_NAMED = 8
_HELD_OUT = 10  # one piece of text in so many is counted, and learnt nothing from


@dataclass(frozen=True)
class AdaptReport:
    """What became of a vocabulary.

    Attributes:
        source: the checkpoint's name.
        language: as it was given.
        init: how new rows begin.
        expanded: whether the old tokens are all there.
        tokens_before: of the vocabulary.
        tokens_asked: how many were to be there.
        tokens_after: of the new one; fewer where the texts give no more.
        overlap: new tokens whose text the old vocabulary has.
        origins: new tokens by how their rows were made.
        tokens_per_byte_before: on text that nothing was learnt from, if there is so much.
        tokens_per_byte_after: likewise.
        held_out_bytes: of that text; 0 where there is too little to hold any back, so that all was counted.
        unreachable: new tokens that their own text does not become, of those that people could type.
        seed: of what was drawn.
    """

    source: str
    language: str | None
    init: Init
    expanded: bool
    tokens_before: int
    tokens_asked: int
    tokens_after: int
    overlap: int
    origins: Mapping[str, int]
    tokens_per_byte_before: float
    tokens_per_byte_after: float
    held_out_bytes: int
    unreachable: int
    seed: int


def adapt_vocab(checkpoint: Checkpoint, request: AdaptRequest, out: Path) -> AdaptReport:
    """Writes the checkpoint with another vocabulary into a folder.

    Args:
        checkpoint: whose tokenizer is byte-level BPE.
        request: how.
        out: a new folder, or an empty one.

    Raises:
        TransformError: the tokenizer is of another kind, or the texts give none.
        CheckpointError: the folder is not empty, or the architecture stores several weights as one.
        UnsupportedOption: a text cannot be read.
        MissingExtra: what an initialisation needs is not installed.
        OSError: the folder cannot be written.
    """
    check_new_folder(out)
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    check_byte_level(data)
    spec = read_spec(checkpoint.config)
    if spec.layer_inputs is not None:
        raise TransformError(
            f"{spec.architecture} has embeddings of every token for every layer, which are not made for new "
            "tokens; adapt a model without them"
        )
    weights = weights_for(checkpoint, spec)
    names = find_architecture(spec.architecture).names["huggingface"]
    stored = _stored_names(checkpoint, names, weights)
    learnt, held_out = _texts(request)
    if not any(block.strip() for block in learnt):
        raise TransformError("the texts hold no words to learn from; give more of them")
    target = _target(data, checkpoint, request, learnt)
    fresh = TokenizerData(target.text)
    spelled = spell_tokens(data, fresh, target)
    made = mixture(request.init, spelled, _vectors(fresh, request, learnt))
    report = _report(checkpoint, request, data, fresh, (learnt, held_out), spelled, made)
    write_huggingface(
        _adapted(checkpoint, fresh, target),
        _tensors(checkpoint, weights, stored, made, request.seed),
        out,
        {RECORD: {**_json(report), "corpus": _corpus(request)}, ORIGINS: _origins(made)},
    )
    plot_adaptation(report.tokens_per_byte_before, report.tokens_per_byte_after, report.origins, out / PLOT)
    return report


def _texts(request: AdaptRequest) -> tuple[list[str], list[str]]:
    """Blocks, or lines of a short text, to learn from, and some between them that are only counted."""
    pieces = [block for path in request.corpus for block in read_blocks(path)]
    if len(pieces) < _HELD_OUT:
        pieces = [line for block in pieces for line in block.splitlines(keepends=True) if line.strip()]
    if len(pieces) < _HELD_OUT:
        return pieces, []
    kept = [piece for i, piece in enumerate(pieces) if i % _HELD_OUT]
    return kept, [piece for i, piece in enumerate(pieces) if not i % _HELD_OUT]


def _target(
    data: TokenizerData, checkpoint: Checkpoint, request: AdaptRequest, texts: Sequence[str]
) -> TargetTokenizer:
    if request.expand:
        return train_expansion(data, texts, request.size)
    record = checkpoint.tokenizer.record
    roles = [i for i in (record.bos_id, *record.eos_ids) if i is not None]
    if request.tokenizer is None:
        return train_replacement(data, roles, texts, request.size)
    try:
        text = request.tokenizer.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TransformError(f"{request.tokenizer} cannot be read as a tokenizer.json") from error
    try:
        given = TokenizerData(text)
    except TransformError as error:
        raise TransformError(f"{request.tokenizer}: {error}") from error
    check_byte_level(given)
    if given.size > MOST_TOKENS:
        raise TransformError(
            f"{request.tokenizer} has token ids up to {given.size - 1}, expected less than {MOST_TOKENS}"
        )
    special = data.added_ids | set(roles)
    lacking = sorted(data.texts[i] for i in special if data.texts[i] not in given.ids)
    if lacking:
        raise TransformError(
            f"{request.tokenizer} lacks the special tokens {', '.join(lacking[:6])}; the model needs them"
        )
    return TargetTokenizer(text, {old: given.ids[data.texts[old]] for old in special})


def spell_tokens(data: TokenizerData, fresh: TokenizerData, target: TargetTokenizer) -> Spelled:
    """Both vocabularies: the checkpoint's tokenizer, and the new one that `target` holds."""
    texts = [fresh.texts.get(i, "") for i in range(fresh.size)]
    # A byte-level decoder gives the characters; parts of one become U+FFFD.
    shown = [fresh.engine.decoder.decode([text]) if text else "" for text in texts]
    spelling = [
        [] if "\ufffd" in each or not each else data.engine.encode(each, add_special_tokens=False).ids
        for each in shown
    ]
    return Spelled(data.ids, texts, {new: old for old, new in target.kept.items()}, spelling, shown)


def _vectors(fresh: TokenizerData, request: AdaptRequest, texts: Sequence[str]) -> VectorsOf | None:
    if request.init not in ("clp", "clp+", "focus"):
        return None
    return train_vectors(fresh.engine, texts, parts=request.init == "focus", seed=request.seed)


def _adapted(checkpoint: Checkpoint, fresh: TokenizerData, target: TargetTokenizer) -> Checkpoint:
    """The checkpoint with the new tokenizer; its tensors stay the old ones: the writer is given others."""
    record = checkpoint.tokenizer.record
    config: dict[str, JsonValue] = remap_ids(checkpoint.config, target.kept)
    config["vocab_size"] = fresh.size
    return dataclasses.replace(
        checkpoint,
        config=config,
        tokenizer=dataclasses.replace(
            checkpoint.tokenizer,
            tokenizer_json=target.text,
            record=dataclasses.replace(
                record,
                bos_id=None if record.bos_id is None else target.kept[record.bos_id],
                eos_ids=tuple(target.kept[i] for i in record.eos_ids),
            ),
        ),
    )


def _stored_names(checkpoint: Checkpoint, names: WeightNames, weights: Weights) -> dict[str, str]:
    """Hugging Face's name of each weight; of the tables alone where files have those names already.

    Raises:
        CheckpointError: a weight is only a part of a stored tensor there.
    """
    if checkpoint.dialect == "huggingface":
        return {name: names.tensors[name] for name in ("embed", "head") if name in names.tensors}
    stored: dict[str, str] = {}
    for name in weights:
        parts = name.split(".")
        layered = len(parts) > 1 and parts[0] == "layers"
        key = ".".join(["layers", "{i}", *parts[2:]]) if layered else name
        if key in names.combine or key not in names.tensors:
            raise CheckpointError(
                f"Hugging Face's files of this architecture hold {name!r} in another form; "
                "adapt its checkpoint in safetensors"
            )
        stored[name] = names.tensors[key].replace("{i}", parts[1] if layered else "")
    return stored


def _tensors(
    checkpoint: Checkpoint, weights: Weights, stored: Mapping[str, str], made: Mixture, seed: int
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Tensors by Hugging Face's names, those with a row for each token made anew."""
    tables = {stored[name] for name in ("embed", "head") if name in stored}
    if (
        checkpoint.dialect == "huggingface"
    ):  # as they are stored, which is not always how they are computed with
        for name in checkpoint.tensors:
            array = checkpoint.tensors.load(name)
            yield name, new_rows(array, made, seed) if name in tables else array
        return
    for name in weights:
        array = weights.load(name)
        yield stored[name], new_rows(array, made, seed) if stored[name] in tables else array


def _report(
    checkpoint: Checkpoint,
    request: AdaptRequest,
    data: TokenizerData,
    fresh: TokenizerData,
    texts: tuple[Sequence[str], Sequence[str]],
    spelled: Spelled,
    made: Mixture,
) -> AdaptReport:
    learnt, held_out = texts
    counted = list(held_out or learnt)
    size = sum(len(text.encode()) for text in counted)
    before, after = (
        sum(len(each.ids) for each in tokenizer.engine.encode_batch(counted, add_special_tokens=False))
        for tokenizer in (data, fresh)
    )
    special = set(spelled.kept)
    unreachable = sum(
        fresh.engine.encode(shown, add_special_tokens=False).ids != [new]
        for new, shown in enumerate(spelled.shown)
        if shown and "\ufffd" not in shown and new not in special and new not in fresh.added_ids
    )
    counts: dict[str, int] = {each: made.origins.count(each) for each in dict.fromkeys(made.origins)}
    asked = fresh.size if request.tokenizer is not None else request.size + request.expand * data.size
    return AdaptReport(
        checkpoint.name, request.language, request.init, request.expand, data.size, asked, fresh.size,
        len(spelled.overlap()), counts, before / size, after / size, size if held_out else 0, unreachable,
        request.seed,
    )  # fmt: skip


def _origins(made: Mixture) -> list[JsonValue]:
    """For each new token what was done, and out of which old ones: of many the heaviest."""
    found: list[JsonValue] = []
    for new, origin in enumerate(made.origins):
        old: list[JsonValue] = []
        if new in made.copied:
            old = [int(made.copied[new])]
        elif new in made.mixed:
            ids, weights = made.mixed[new]
            old = [int(i) for i in ids[np.argsort(-weights, kind="stable")[:_MOST_NAMED]]]
        found.append([origin, *old])
    return found


def _corpus(request: AdaptRequest) -> list[JsonValue]:
    return [{"file": path.name, "bytes": path.stat().st_size} for path in request.corpus]


def _json(report: AdaptReport) -> dict[str, JsonValue]:
    found = to_json(report)
    assert isinstance(found, dict)
    return found
