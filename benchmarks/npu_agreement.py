"""Does a Hexagon processor say what the CPU says? Greedy text of a step variant on both.

    python benchmarks/npu_agreement.py BUNDLE VARIANT REFERENCE_BUNDLE --backend onnxruntime --tokens 16

The CPU writes greedily; the processor, or its simulator, reads the same tokens one at a time (T = 1, other
sizes are never opened), and its first choice is compared after each. Equal first choices everywhere mean an
equal greedy text. Where they differ, the distance of the two in the CPU's logits says how near a tie it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np

import edgesdk
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.qnn.provider import qnn_provider
from edgesdk.bundle.reader import open_bundle
from edgesdk.kv.step_model import StepModel


def reference_text(bundle: Path, backend: str, prompt: str, count: int) -> tuple[list[int], list[np.ndarray]]:
    """Prompt and greedy answer as tokens, and the CPU's logits after each but the last."""
    with edgesdk.load(bundle, backend=backend, recipe="w8") as model:
        sequence = model.new_sequence()
        tokens = model.render_prompt(prompt, raw=True)
        start = len(tokens)
        rows = [sequence.extend(np.array([token], np.int32)).copy() for token in tokens]
        while len(tokens) < start + count:
            tokens.append(int(rows[-1].argmax()))
            rows.append(sequence.extend(np.array(tokens[-1:], np.int32)).copy())
    return tokens, rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("variant")
    parser.add_argument("reference", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--prompt", default="The capital of France is", help="without a chat template")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    tokens, rows = reference_text(options.reference, options.backend, options.prompt, options.tokens)
    bundle = open_bundle(options.bundle)
    variant = bundle.variant(options.variant)
    single = dataclasses.replace(variant, steps=tuple(s for s in variant.steps if s.tokens == 1))
    started = time.perf_counter()
    backend = OnnxStepBackend(bundle, single, threads=1, provider=qnn_provider())
    share = backend.accelerated_share()
    print(json.dumps({"load_s": round(time.perf_counter() - started, 1), "share": share}), flush=True)
    sequence = StepModel(backend, bundle.manifest.decoder_of(variant), variant.context).new_sequence()
    equal, others = 0, []
    for at, (token, row) in enumerate(zip(tokens, rows, strict=True)):
        started = time.perf_counter()
        found = sequence.extend(np.array([token], np.int32))
        mine, theirs = int(row.argmax()), int(found.argmax())
        equal += mine == theirs
        if mine != theirs:
            others.append({"at": at, "gap": round(float(row[mine] - row[theirs]), 4)})
        line = {
            "at": at,
            "cpu": mine,
            "npu": theirs,
            "largest_difference": round(float(np.abs(found - row).max()), 4),
            "step_s": round(time.perf_counter() - started, 1),
        }
        print(json.dumps(line), flush=True)
    print(json.dumps({"positions": len(tokens), "equal": equal, "others": others, "share": share}))


if __name__ == "__main__":
    main()
