"""Snapshots: a sequence's tokens, keys and values in a file, to go on later or elsewhere.

The file is in the safetensors format, whose reader checks its own bounds: `tokens` (n,) int32 and, by name,
an array for each group of the step's contract as the pool holds it, with n cells: `kv` (L, 2, K, n, D)
float32, float16 or int8, and for int8 `scales` (L, 2, K, n) float32; with a header that says what they belong
to. Cells have one layout for all backends, so a snapshot made on one continues on another whose cells are of
the same type. It does not know what the key of a model is made of; equal keys must mean equal keys and values
for equal tokens.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgesdk.backends.cell_arrays import all_finite
from edgesdk.backends.protocol import Cells, Int
from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType
from edgesdk.bundle.port import NumberType
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.write_file import check_target, write_file
from edgesdk.errors import SnapshotError, first_line
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_runner import StepRunner

FORMAT = "edgesdk-snapshot"
VERSION = "1"

_HEADER_LIMIT_BYTES = 64 << 10
_DTYPES: dict[NumberType, str] = {"float32": "F32", "float16": "F16", "int8": "I8"}
_CELL_TYPES: dict[str, CellType] = {"F32": "float32", "F16": "float16", "I8": "int8"}


def save_snapshot(path: Path, runner: StepRunner, cells: CellList, model: str) -> None:
    """Writes a sequence to a file, which appears whole or not at all.

    Args:
        path: file to write; a plain file that is there is replaced, anything else is refused.
        runner: whose cells.
        cells: the sequence, which stays as it is.
        model: key of everything that keys and values depend on beside the tokens.

    Raises:
        SnapshotError: the sequence is empty or has lost its first cells to a window, or the file cannot be
            written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if not cells.length:
        raise SnapshotError("the sequence is empty; there is nothing to save")
    if cells.first:
        raise SnapshotError(
            f"every layer has a sliding window, and the cells before position {cells.first} are freed; "
            "there is no whole sequence to save"
        )
    try:
        check_target(path)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be written: {error.strerror}") from error
    tokens, kv = cells.tokens.copy(), runner.pool.read(cells.cells)
    header = {"format": FORMAT, "version": VERSION, "model": model, "sha256": _digest(tokens, kv)}
    names = [group.name for group in runner.pool.contract.groups]
    tensors = {"tokens": tokens, **dict(zip(names, kv.arrays, strict=True))}
    try:
        write_file(path, lambda draft: save_file(tensors, draft, metadata=header))
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise SnapshotError(f"{path} cannot be written: {reason}") from error


def load_snapshot(
    path: Path, runner: StepRunner, spec: DecoderSpec, model: str, gates: Gates = ()
) -> CellList:
    """Reads a sequence from a file into cells of its own.

    Args:
        path: what `save_snapshot` wrote.
        runner: where the sequence is to go on.
        spec: the model's shape.
        model: key of the model that is to go on.
        gates: that its tokens are to be run with; the key depends on them.

    Returns:
        The sequence.

    Raises:
        SnapshotError: the file is damaged, of another version, model or type of cells, or longer than the
            context.
        CapacityError: there are not enough free cells; nothing has changed.
    """
    tokens, kv = _read(path, spec, model, runner)
    cells = runner.new_list(gates)
    runner.store(cells, tokens, kv)
    return cells


def _read(path: Path, spec: DecoderSpec, model: str, runner: StepRunner) -> tuple[Int, Cells]:
    from safetensors import SafetensorError, safe_open

    try:
        _check_size(path)
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            _check_header(path, header, model)
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no dict
            dtypes = {name: file.get_slice(name).get_dtype() for name in shapes}
            contract = runner.pool.contract
            _check_types(path, dtypes, contract)
            _check_shapes(path, shapes, contract, runner.context)
            tokens = file.get_tensor("tokens")
            cells = Cells(tuple([file.get_tensor(group.name) for group in contract.groups]))
    except (SafetensorError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise SnapshotError(f"{path} cannot be read as a snapshot: {reason}") from error
    if header.get("sha256") != _digest(tokens, cells):
        raise SnapshotError(f"{path} is damaged: its content has another sha256 than it says; save it again")
    if tokens.min() < 0 or tokens.max() >= spec.vocab_size:
        raise SnapshotError(f"{path} holds token ids outside the vocabulary of {spec.vocab_size}")
    # One number that is none would reach every later token, visible or not.
    if not all_finite(cells):
        raise SnapshotError(f"{path} holds keys and values that are no numbers")
    return tokens, cells


def _check_size(path: Path) -> None:
    """Refuses what is no plain file, and a header that would have to be read whole before it is checked."""
    if not path.is_file():
        raise SnapshotError(f"{path} is no file")
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if length > _HEADER_LIMIT_BYTES:
        raise SnapshotError(f"{path} is no snapshot of edgesdk: its header would take {length} bytes")


def _check_header(path: Path, header: dict[str, str], model: str) -> None:
    if header.get("format") != FORMAT:
        raise SnapshotError(f"{path} is no snapshot of edgesdk")
    if header.get("version") != VERSION:
        raise SnapshotError(
            f"{path} has version {header.get('version')!r} of the format, expected {VERSION!r}; save it again"
        )
    if header.get("model") != model:
        raise SnapshotError(
            f"{path} was saved by another model, recipe or adapter; its keys and values mean nothing to "
            "this one"
        )


def _check_types(path: Path, dtypes: dict[str, str], contract: StepContract) -> None:
    found = _CELL_TYPES.get(dtypes.get("kv", ""))
    if found is not None and found != contract.cell_type:
        raise SnapshotError(
            f"{path} holds {found} cells, this model's are {contract.cell_type}; load it with the "
            "variant that saved it"
        )
    expected = {"tokens": "I32", **{group.name: _DTYPES[group.dtype] for group in contract.groups}}
    if dtypes != expected:
        raise SnapshotError(f"{path} holds {dtypes}, expected {expected}")


def _check_shapes(path: Path, shapes: dict[str, list[int]], contract: StepContract, context: int) -> None:
    tokens = shapes["tokens"]
    count = tokens[0] if len(tokens) == 1 else 0
    for group in contract.groups:
        expected = list(group.shape(count))
        if count < 1 or shapes[group.name] != expected:
            raise SnapshotError(
                f"{path} holds tokens {tokens} with {group.name} {shapes[group.name]}, "
                f"expected cells {expected}"
            )
    if count > context:
        raise SnapshotError(
            f"{path} holds {count} tokens, the context is {context}; convert with a larger --context"
        )


def _digest(tokens: Int, cells: Cells) -> str:
    digest = hashlib.sha256(tokens.data)
    for array in cells.arrays:
        digest.update(array.data)
    return digest.hexdigest()
