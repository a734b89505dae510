"""Checkpoints of streams: a folder with `config.json` and `model.safetensors`, read strictly.

Tensors, in float16, float32 or bfloat16:

    start            (G, E)  what each stream begins with, or what is added to its token's state
    WEIGHT.A, .B     (r, I), (O, r) of each product y = W x that has a part of its own: y += B (A x)

WEIGHT is the canonical name (`layers.0.q`), so one folder serves every file of the same checkpoint. It does
not know how streams are trained or run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.records import JsonValue, from_json, to_json
from edgesdk.errors import BundleError, CheckpointError, first_line
from edgesdk_converters.checkpoints.require_finite import require_finite
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk_converters.checkpoints.text_file import read_json
from edgesdk_converters.drafts.check_target import check_target
from edgesdk_converters.drafts.trained_folder import CONFIG, WEIGHTS, Tensors, stored_as, write_trained
from edgesdk_converters.graph.program import Program
from edgesdk_converters.streams.stream_config import FORMAT, StreamConfig, tensor_shapes
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

MERGED = "merge_adapter"
"""Of a program's history: an adapter has become part of it (`adapters.merge_adapter`)."""

_STORED = ("F32", "F16", "BF16")
_MOST_TENSORS = 1 << 14


@dataclass(frozen=True, eq=False)
class StreamCheckpoint:
    """Streams: what they are, and their numbers.

    Attributes:
        config: what they are.
        tensors: float32 by name.
    """

    config: StreamConfig
    tensors: Tensors

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(value.size for value in self.tensors.values())


def read_streams(folder: Path) -> StreamCheckpoint:
    """Reads streams; that they fit a model is for `fit_streams` to say.

    Args:
        folder: with `config.json` and `model.safetensors`.

    Raises:
        CheckpointError: a file is missing or damaged, or says what no streams are.
    """
    try:
        config = from_json(StreamConfig, read_json(folder / CONFIG), f"the streams' {CONFIG}")
    except BundleError as error:
        raise CheckpointError(
            f"{first_line(error, 300)}; {folder} holds no streams of this version"
        ) from error
    stored = SafetensorsTensors([folder / WEIGHTS])
    names = list(stored)
    if len(names) > _MOST_TENSORS:
        raise CheckpointError(
            f"{folder / WEIGHTS} has {len(names)} tensors, expected {_MOST_TENSORS} at most"
        )
    for name in names:
        if stored.stored_type(name) not in _STORED or len(stored.shape(name)) != 2:
            raise CheckpointError(
                f"the streams' tensor {name[:80]!r} is {stored.stored_type(name)}{stored.shape(name)}, "
                f"expected two dimensions of {', '.join(_STORED)}"
            )
    return StreamCheckpoint(config, {name: stored.load(name) for name in names})


def fit_streams(streams: StreamCheckpoint, program: Program, tokenizer: TokenizerFiles) -> StreamCheckpoint:
    """The streams, once it is certain that they belong to a model.

    Args:
        streams: the checkpoint.
        program: the model as its checkpoint has it, with its whole vocabulary.
        tokenizer: the model's.

    Raises:
        CheckpointError: they were trained for another, or tensors are missing, unknown or of other shapes.
        UnsupportedOption: no streams are rows of such a model.
    """
    config, spec = streams.config, program.spec
    check_target(config.target, spec, tokenizer, trained="the streams were", again="streams")
    _check_adapter(config, program)
    shapes = {value.name: program.weights.shape(value.name) for value in program.graph.weights}
    expected = tensor_shapes(config, spec, shapes)
    odd = sorted(expected.keys() ^ streams.tensors.keys())
    if odd:
        what = "have no" if odd[0] in expected else "have an unknown"
        raise CheckpointError(
            f"the streams {what} tensor {odd[0][:80]!r}, expected {len(expected)}; train or copy them again"
        )
    for name, shape in expected.items():
        value = streams.tensors[name]
        if value.shape != shape:
            raise CheckpointError(
                f"the streams' tensor {name!r} has the shape {value.shape}, the model's {shape}"
            )
        require_finite(value, "the streams", name)
    return streams


def _check_adapter(config: StreamConfig, program: Program) -> None:
    """Refuses streams that learnt together with their model, where the model is not that one.

    Raises:
        CheckpointError: another adapter is merged into it, or none.
    """
    merged = [(r.settings["sha256"], r.settings["scale"]) for r in program.history if r.name == MERGED]
    if config.adapter is not None and merged != [(config.adapter, 1.0)]:
        raise CheckpointError(
            "the streams were trained together with changes to their model, which is another without these; "
            "give --merge-adapter STREAMS/adapter, the folder beside the streams, and no other"
        )


def write_streams(
    folder: Path, streams: StreamCheckpoint, training: Mapping[str, JsonValue] | None = None
) -> None:
    """Writes streams into a folder, which is made, in float16; each file appears whole or not at all.

    Args:
        folder: where; streams that are there are replaced.
        streams: what.
        training: for people: provenance, seed, data, licence, losses.

    Raises:
        CheckpointError: a file cannot be written, or a number is too large for float16.
    """
    stored = stored_as(streams.tensors, "float16", "train with a smaller learning rate")
    write_trained(folder, "streams", stored, to_json(streams.config), training, form=FORMAT)
