"""Measures one variant of a bundle; run by benchmarks/peers.py and benchmarks/vocabulary_speed.py."""

import time

import numpy as np
from serve import Measure, serve

import edgesdk


def load(settings: dict) -> Measure:
    model = edgesdk.load(
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


serve("edgesdk", load)
