"""Answers token ids greedily with llama.cpp, plainly and with its Python package's prompt lookup, in turn.

Run by benchmarks/drafts.py in an environment with llama-cpp-python. The settings are one JSON argument.
Every line `{"prompt": [..], "new": N}` answers a prompt each way, up to N tokens or an end token, and tells
for each the seconds after the first token, by the clock and of the processor, and how many tokens there are.
Its documentation proposes 10 drafted tokens, and 2 for machines without a GPU: both are ways.
"""

import json
import sys
import time

import llama_cpp
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

DRAFTED = (2, 10)


def open_model(settings: dict, draft_model: LlamaPromptLookupDecoding | None) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        settings["model"],
        n_ctx=settings["context"],
        n_threads=settings["threads"],
        n_threads_batch=settings["threads"],
        draft_model=draft_model,
        verbose=False,
    )


def answer(model: llama_cpp.Llama, prompt: list[int], new: int) -> dict:
    count = 0
    wall = cpu = 0.0
    model.reset()
    for token in model.generate(prompt, temp=0.0, repeat_penalty=1.0):
        if not count:
            wall, cpu = time.perf_counter(), time.process_time()
        count += 1
        if count == new or token == model.token_eos():
            break
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "tokens": count}


def main() -> None:
    settings = json.loads(sys.argv[1])
    models = {"plain": open_model(settings, None)}
    for drafted in DRAFTED:
        drafter = LlamaPromptLookupDecoding(num_pred_tokens=drafted)
        models[f"lookup of {drafted}"] = open_model(settings, drafter)
    print(json.dumps({"ready": f"llama-cpp-python {llama_cpp.__version__}"}), flush=True)
    for turn, line in enumerate(sys.stdin):
        request = json.loads(line)
        names = list(models)[turn % len(models) :] + list(models)[: turn % len(models)]
        found = {name: answer(models[name], request["prompt"], request["new"]) for name in names}
        print(json.dumps(found), flush=True)


main()
