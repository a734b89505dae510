"""Measures one candidate: a short prompt, some tokens after it, and steps of several tokens.

    python -m edgesdk.dispatch.measure_candidate BUNDLE VARIANT BACKEND DEVICE THREADS BUDGET_S BEGUN_S

(BEGUN_S: the time of day, in seconds, from which the budget counts) is how `measure` runs it: in a process of
its own, whose memory is the candidate's, and whose crash is a row.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgesdk.backends.protocol import Cells, SequenceBackend, StepBackend, TokenSequence
from edgesdk.backends.registry import find_backends
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.records import to_json
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_shape import MAIN
from edgesdk.devices.energy import joules_between, read_joules
from edgesdk.devices.measurement import Measurement, PhaseFigures
from edgesdk.devices.probes.answer import MARK
from edgesdk.devices.process_memory import forget_peak, peak_rss_bytes
from edgesdk.dispatch.candidates import Candidate, list_candidates
from edgesdk.dispatch.open_candidate import open_candidate
from edgesdk.errors import EdgeError
from edgesdk.kv.cell_memory import CellMemory
from edgesdk.kv.step_model import StepModel

PROMPT_TOKENS = 128
NEW_TOKENS = 16
FIRST_TOKENS = 4
"""Of the first round, so that a slow device has figures early."""
BATCH_TOKENS = 8
MOST_ROUNDS = 8
LONG_PROMPT_TOKENS = 512
LONG_CELLS = 640
"""What memory is counted for: a long prompt and an answer. Buffers of such steps are much of it."""


def measure_candidate(
    bundle: Bundle,
    candidate: Candidate,
    threads: int,
    budget_s: float,
    tell: Callable[[Measurement], None] | None = None,
) -> Measurement:
    """Opens and measures a candidate in this process.

    Args:
        bundle: its bundle.
        candidate: what to measure.
        threads: CPU threads.
        budget_s: seconds that no round is begun to exceed; one is always made.
        tell: given the figures after every round.

    Raises:
        EdgeError: it cannot be opened, or fails.
    """
    started = time.perf_counter()
    variant = candidate.variant
    found = open_candidate(bundle, candidate, threads)
    load_ms = (time.perf_counter() - started) * 1e3
    # Packing weights, which only the first load does, takes more than any request.
    forget_peak()
    spec = bundle.manifest.decoder_of(variant)
    model: SequenceBackend
    steps = found.step_backend
    if steps is not None:
        model = StepModel(steps, spec, variant.context)
    elif isinstance(found.opened.model, SequenceBackend):
        model = found.opened.model
    else:
        raise EdgeError(f"{candidate.backend.name} opened neither steps nor a model")
    # Two thirds of the context for the prompt where it is short.
    count = max(1, min(PROMPT_TOKENS, variant.context * 2 // 3))
    new = max(1, min(NEW_TOKENS, variant.context - count))
    prompt = (37 * np.arange(count, dtype=np.int64) % spec.vocab_size).astype(np.int32)
    several = prompt[:BATCH_TOKENS] if steps is not None and len(prompt) >= BATCH_TOKENS else None
    prefill: list[PhaseFigures] = []
    decode: list[PhaseFigures] = []
    batch: list[PhaseFigures] = []
    peak: int | None = None
    sequence = model.new_sequence()
    try:
        newest = np.empty(1, np.int32)

        def run_prompt() -> None:
            newest[0] = sequence.extend(prompt).argmax()

        def run_tokens(tokens: int) -> None:
            for _ in range(tokens):
                newest[0] = sequence.extend(newest).argmax()

        # The first round builds what is built with first use; best-of leaves it behind.
        while len(prefill) < MOST_ROUNDS:
            begun = time.perf_counter()
            sequence.truncate(0)
            prefill.append(_timed(run_prompt, count))
            tokens = new if len(prefill) > 1 else min(new, FIRST_TOKENS)
            decode.append(_timed(partial(run_tokens, tokens), tokens))
            if several is not None:
                batch.append(_batch(sequence, count - len(several), several))
            measured = Measurement(
                variant=variant.name,
                backend=candidate.backend.name,
                device=candidate.device,
                provider=found.opened.provider,
                host_cells=steps is not None,
                load_ms=load_ms,
                peak_rss_bytes=peak,
                prefill=_best(prefill),
                decode=_best(decode),
                batch=_best(batch) if batch else None,
            )
            if tell is not None:
                tell(measured)
            if peak is None:
                # After the first figures: one that is too slow for it has at least those.
                sequence.close()
                _run_long(steps, model, spec, variant)
                sequence = model.new_sequence()
                peak = peak_rss_bytes()
                measured = replace(measured, peak_rss_bytes=peak)
                if tell is not None:
                    tell(measured)
            now = time.perf_counter()
            if now + (now - begun) - started > budget_s:
                break
    finally:
        sequence.close()
        model.close()
    return measured


def _run_long(steps: StepBackend | None, model: SequenceBackend, spec: DecoderSpec, variant: Variant) -> None:
    """Takes the memory that a long request takes, in as little time as that can be done.

    Of steps the largest that such a request needs is enough, over cells that hold nothing; what keeps its
    cache to itself has to read the prompt.
    """
    if steps is None:
        length = max(1, min(LONG_PROMPT_TOKENS, variant.context - 1))
        sequence = model.new_sequence()
        try:
            sequence.extend((37 * np.arange(length, dtype=np.int64) % spec.vocab_size).astype(np.int32))
        finally:
            sequence.close()
        return
    main = [shape for shape in steps.shapes if shape.stack == MAIN]
    cells = min((s.cells for s in main if s.cells >= LONG_CELLS), default=max(s.cells for s in main))
    shape = max(s for s in main if s.cells == cells)
    arrays = steps.buffers(shape)
    for port in steps.contracts[MAIN].inputs:
        arrays.port(port.name)[...] = 0
    steps.run(shape, _cells(steps.contracts[MAIN], cells))


def _cells(contract: StepContract, count: int) -> Cells:
    """Cells, of which as many are in memory as a long request writes."""
    memory = CellMemory(contract, count)
    memory.lay_out(count, 0)
    cells = memory.cells
    for array in cells.arrays:
        array[:, :, :, :LONG_CELLS] = 1
    return cells


def _batch(
    sequence: TokenSequence, length: int, tokens: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> PhaseFigures:
    """One step of several tokens, each with logits: what one step of as many answers costs."""
    sequence.truncate(length)
    return _timed(lambda: sequence.score(tokens), len(tokens))


def _timed(act: Callable[[], object], tokens: int) -> PhaseFigures:
    joules, cpu, wall = read_joules(), time.process_time(), time.perf_counter()
    act()
    elapsed_s = max(time.perf_counter() - wall, 1e-9)
    cpu_s = time.process_time() - cpu
    used = joules_between(joules, read_joules())
    return PhaseFigures(tokens / elapsed_s, cpu_s * 1e3 / tokens, None if used is None else used / tokens)


def _best(rounds: list[PhaseFigures]) -> PhaseFigures:
    """The best of each figure."""
    joules = [r.joules_per_token for r in rounds if r.joules_per_token is not None]
    return PhaseFigures(
        max(r.tokens_per_s for r in rounds),
        min(r.cpu_ms_per_token for r in rounds),
        min(joules) if len(joules) == len(rounds) else None,
    )


def main(arguments: list[str]) -> None:
    """Measures what the arguments name and prints the figures, or exits with the reason."""
    folder, variant, backend, device, threads, budget_s, begun_s = arguments
    # The start of Python and the imports are part of it: else each candidate takes time from those behind it.
    left_s = float(budget_s) - max(0.0, time.time() - float(begun_s))
    try:
        bundle = open_bundle(Path(folder))
        wanted = list_candidates(bundle, find_backends(backend), variants=[bundle.variant(variant)])
        candidate = next(found for found in wanted if found.device == device)
        measure_candidate(bundle, candidate, int(threads), left_s, _tell)
    except EdgeError as error:
        sys.exit(str(error))


def _tell(measured: Measurement) -> None:
    sys.stdout.write(f"\n{MARK}{json.dumps(to_json(measured))}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
