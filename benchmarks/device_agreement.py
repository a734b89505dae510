"""Does a device say what the CPU says? Greedy text of one variant on both.

    python benchmarks/device_agreement.py BUNDLE --variant litert-f32 --backend litert-gpu --against litert
    python benchmarks/device_agreement.py BUNDLE --variant onnx-npu-w8 --backend onnxruntime-qnn \\
        --reference OTHER_BUNDLE --reference-variant onnx-w8 --against onnxruntime

The CPU writes greedily; the device reads the same tokens one at a time, and its first choice is compared
after each. Equal first choices everywhere mean an equal greedy text. Where they differ, the distance of the
two in the CPU's logits says how near a tie it was. With `--at-once` the prompt is one step instead. Nothing
falls back: a device that refuses the variant ends it with the reason.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import edgesdk
from edgesdk.backends.protocol import TokenSequence
from edgesdk.errors import EdgeError
from edgesdk.evaluation.greedy import NEAR_TIE

PROMPT = "The capital of France is"


def extend(sequence: TokenSequence, tokens: list[int]) -> np.ndarray:
    """Appends tokens; the logits after the last, kept."""
    return sequence.extend(np.array(tokens, np.int32)).copy()


def reference_text(
    bundle: Path, backend: str, variant: str, prompt: str, count: int, *, at_once: bool
) -> tuple[list[list[int]], list[np.ndarray]]:
    """What the CPU writes.

    Returns:
        Tokens in the pieces in which they are read, and the logits after each piece.
    """
    with edgesdk.load(bundle, backend=backend, variant=variant, strict=True) as model:
        sequence = model.new_sequence()
        tokens = model.render_prompt(prompt, raw=True)
        pieces = [tokens] if at_once else [[token] for token in tokens]
        rows = [extend(sequence, piece) for piece in pieces]
        for _ in range(count):
            pieces.append([int(rows[-1].argmax())])
            rows.append(extend(sequence, pieces[-1]))
    return pieces, rows


def compare(
    bundle: Path, backend: str, variant: str, pieces: list[list[int]], rows: list[np.ndarray]
) -> dict:
    """Reads the same pieces on the device, one line of JSON for each, and counts equal choices."""
    started = time.perf_counter()
    with edgesdk.load(bundle, backend=backend, variant=variant, strict=True) as model:
        receipt = model.receipt
        loaded = {
            "load_s": round(time.perf_counter() - started, 1),
            "device": receipt.device,
            "provider": receipt.provider,
            "share": receipt.accelerated_share,
        }
        print(json.dumps(loaded), flush=True)
        sequence = model.new_sequence()
        others, largest = [], 0.0
        for at, (piece, row) in enumerate(zip(pieces, rows, strict=True)):
            begun = time.perf_counter()
            found = extend(sequence, piece)
            mine, theirs = int(row.argmax()), int(found.argmax())
            difference = float(np.abs(found - row).max())
            largest = max(largest, difference)
            if mine != theirs:
                others.append({"at": at, "gap": round(float(row[mine] - row[theirs]), 4)})
            line = {
                "at": at,
                "tokens": len(piece),
                "cpu": mine,
                "device": theirs,
                "largest_difference": round(difference, 4),
                "step_s": round(time.perf_counter() - begun, 2),
            }
            print(json.dumps(line), flush=True)
    return {
        "positions": len(rows),
        "equal": len(rows) - len(others),
        "others": others,
        "near_ties": sum(other["gap"] < NEAR_TIE for other in others),
        "largest_difference": round(largest, 4),
        "largest_logit": round(float(max(np.abs(row).max() for row in rows)), 1),
        **loaded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares a device's first choices with the CPU's.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", required=True, help="of the bundle, for the device")
    parser.add_argument("--backend", required=True, help="that reaches the device")
    parser.add_argument("--against", required=True, help="backend that runs the reference on the CPU")
    parser.add_argument("--reference", type=Path, help="bundle of the reference (default: BUNDLE)")
    parser.add_argument("--reference-variant", help="default: the same variant")
    parser.add_argument("--prompt", default=PROMPT, help="without a chat template (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=16, help="to write (default: %(default)s)")
    parser.add_argument("--at-once", action="store_true", help="read the prompt in one step")
    options = parser.parse_args()
    try:
        pieces, rows = reference_text(
            options.reference or options.bundle,
            options.against,
            options.reference_variant or options.variant,
            options.prompt,
            options.tokens,
            at_once=options.at_once,
        )
        print(json.dumps(compare(options.bundle, options.backend, options.variant, pieces, rows)))
    except EdgeError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
