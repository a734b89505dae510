"""Measures one variant of a bundle; run by benchmarks/peers.py and benchmarks/vocabulary_speed.py."""

import json
import sys
import time
from importlib import import_module

import numpy as np
from serve import Measure, serve

from edgesdk import load as load_bundle
from edgesdk.devices.import_openvino import import_openvino

# Imported when they are needed, they would count as loading; the other workers import theirs at the top.
LIBRARIES = {"litert": "ai_edge_litert.compiled_model", "onnxruntime": "onnxruntime"}


def load(settings: dict) -> Measure:
    model = load_bundle(
        settings["model"],
        backend=settings["backend"],
        variant=settings["variant"],
        threads=settings["threads"],
        strict=True,
    )
    sequence = model.new_sequence()

    def measure(prompt: list[int], new: int) -> tuple[float, float]:
        sequence.truncate(0)
        tokens = np.array(prompt, np.int32)
        started = time.perf_counter()
        sequence.extend(tokens).argmax()
        prefilled = time.perf_counter()
        for i in range(new):
            sequence.extend(tokens[i % len(tokens)][None]).argmax()
        return prefilled - started, time.perf_counter() - prefilled

    return measure


BACKEND = json.loads(sys.argv[1])["backend"]
if BACKEND == "openvino":
    import_openvino()
else:
    import_module(LIBRARIES[BACKEND])
serve("edgesdk", load)
