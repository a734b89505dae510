"""Measures onnxruntime-genai in its own environment; reads a folder that its builder made.

Run by benchmarks/peers.py.
"""

import json
import time

import onnxruntime_genai
from serve import Measure, serve


def load(settings: dict) -> Measure:
    config = onnxruntime_genai.Config(settings["model"])
    session = {"decoder": {"session_options": {"intra_op_num_threads": settings["threads"]}}}
    config.overlay(json.dumps({"model": session}))
    model = onnxruntime_genai.Model(config)

    def measure(prompt: list[int], new: int) -> tuple[float, float]:
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(max_length=settings["context"], do_sample=False)
        generator = onnxruntime_genai.Generator(model, parameters)
        started = time.perf_counter()
        generator.append_tokens(prompt)
        generator.get_logits()
        prefilled = time.perf_counter()
        for i in range(new):
            generator.append_tokens([prompt[i % len(prompt)]])
            generator.get_logits()
        return prefilled - started, time.perf_counter() - prefilled

    return measure


serve(f"onnxruntime-genai {onnxruntime_genai.__version__}", load)
