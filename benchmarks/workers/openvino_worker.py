"""Measures OpenVINO GenAI in its own environment; reads a GGUF file. Run by benchmarks/peers.py.

Generation is one call there, so the times are the library's own: to the first token, and per token after it.
"""

import numpy as np
import openvino
import openvino_genai
from serve import Measure, serve


def load(settings: dict) -> Measure:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False  # every round has the same prompt
    scheduler.max_num_batched_tokens = settings["context"]
    pipeline = openvino_genai.LLMPipeline(
        settings["model"], "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=settings["threads"]
    )

    def measure(prompt: list[int], new: int) -> tuple[float, float]:
        ids = np.array([prompt], np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        config = openvino_genai.GenerationConfig(max_new_tokens=new + 1, ignore_eos=True)
        metrics = pipeline.generate(inputs, config).perf_metrics
        per_token_ms = metrics.get_tpot().mean if new else 0.0
        return metrics.get_ttft().mean / 1e3, per_token_ms / 1e3 * new

    return measure


serve(f"openvino-genai {openvino_genai.__version__}", load)
