"""Whether the installed LiteRT can do what `compiled` asks of it: tried, where no test of ours has.

LiteRT's C functions have no versions of their own, and one with other arguments would end the process. So a
version that this project was not tested with runs steps of the very file in another process, once; the answer
is kept for that library and that file. Nothing is concluded from a version's number but that it is known. It
also finds what a version can read but not run, such as float16 cells.

    python -m edgesdk.backends.litert.prove_library BUNDLE VARIANT THREADS
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from pathlib import Path

import numpy as np

from edgesdk.backends.cell_arrays import all_finite, allocate_cells
from edgesdk.backends.litert.host_memory import library_path
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_shape import MAIN
from edgesdk.errors import DeviceError, EdgeError
from edgesdk.version import package_version

TESTED = ("2.3.",)
"""Versions that the tests of this project run with."""

_LIMIT_S = 300.0
_RECORD_LIMIT_BYTES = 1 << 16
_MARK = "proved: "


def refusal_of_library(request: OpenRequest) -> str | None:
    """Why the installed LiteRT cannot run a variant through its C functions; None if it can."""
    installed = package_version("ai-edge-litert")
    if installed.startswith(TESTED):
        return None
    request.expect_whole()  # the answer is kept for its digest
    record = _record(request)
    kept = None if record is None else read_checked(record, _RECORD_LIMIT_BYTES)
    refusal = kept.get("refusal", 0) if isinstance(kept, dict) else 0
    if refusal is None or isinstance(refusal, str):
        return refusal
    found, lasting = _prove(request, installed)
    if lasting and record is not None:
        with contextlib.suppress(OSError):
            write_checked(record, {"refusal": found})
    return found


def _record(request: OpenRequest) -> Path | None:
    """Where the answer is kept; None for a user without a cache."""
    library = library_path()
    found = library.stat()
    digest = request.bundle.manifest.files[request.variant.entry].sha256
    about = f"{library}|{found.st_size}|{found.st_mtime_ns}|{digest}|{package_version('edgesdk')}"
    try:
        return cache_folder() / "litert" / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.json"
    except FileNotFoundError:
        return None


def _prove(request: OpenRequest, installed: str) -> tuple[str | None, bool]:
    """What speaks against the library, and whether it would say so again: a busy machine may not."""
    from edgesdk.devices.run_isolated import run_isolated  # with subprocess, which a load does without

    arguments = (str(request.bundle.path.resolve()), request.variant.name, str(request.threads))
    ended = run_isolated(("-m", "edgesdk.backends.litert.prove_library", *arguments), _LIMIT_S)
    answers = [line for line in ended.text.splitlines() if line.startswith(_MARK)]
    said = answers[-1].removeprefix(_MARK) if answers else ended.reason or "it gave no answer"
    if said == "yes":
        return None, True
    refusal = f"ai-edge-litert {installed} was tried and cannot run it: {said}; upgrade ai-edge-litert"
    return refusal, not ended.stopped


def prove(path: Path, name: str, threads: int) -> None:
    """Runs the smallest step of a variant twice, here.

    Raises:
        EdgeError: it cannot be run, or gives what cannot be right.
    """
    from edgesdk.backends.litert.compiled import CompiledStepBackend

    bundle = open_bundle(path)
    variant = bundle.variant(name)
    vocab_size = bundle.manifest.decoder_of(variant).vocab_size
    backend = CompiledStepBackend(
        bundle.file(variant.entry),
        step_contracts(bundle.manifest, variant),
        variant.steps,
        threads=threads,
        weight_cache=None,
    )
    rows = []
    main = [shape for shape in backend.shapes if shape.stack == MAIN]
    for shape in (main[0], main[-1], main[0]):
        arrays = backend.buffers(shape)
        arrays.tokens[:] = np.arange(shape.tokens) % vocab_size
        arrays.positions[:], arrays.rows[:] = 0, 0
        for mask in (arrays.mask, arrays.window_mask):
            if mask is not None:  # cells first, where there are some
                mask[:, : -shape.tokens] = -1e9
                mask[:, -shape.tokens :] = np.where(np.eye(shape.tokens, dtype=bool), 0, -1e9)
        given = arrays.port(backend.contracts[MAIN].outputs[0].name)  # logits, or states where there are none
        for array in (given, *arrays.kv_new.arrays):
            array[...] = np.nan
        backend.run(shape, allocate_cells(backend.contracts[shape.stack].groups, shape.cells))
        if not (np.isfinite(given).all() and all_finite(arrays.kv_new)):
            raise DeviceError(f"its step {shape.signature} leaves results unwritten")
        rows.append(given[0].copy())
    # The first token sees itself only, whatever the size; another rounding may be chosen for another T.
    spread = float(np.ptp(rows[0]))
    if not spread or not np.array_equal(rows[0], rows[2]) or np.abs(rows[0] - rows[1]).max() > spread / 4:
        raise DeviceError("its steps contradict one another")


def main(arguments: list[str]) -> None:
    """Proves what the arguments name, and says how that went."""
    folder, name, threads = arguments
    try:
        prove(Path(folder), name, int(threads))
    except EdgeError as error:
        sys.stdout.write(f"\n{_MARK}{' '.join(str(error).split())}\n")
    else:
        sys.stdout.write(f"\n{_MARK}yes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
