"""Runs a bundle in a process of its own and prints what happened as one line of JSON.

Started natively and under emulation with the same arguments, so that two architectures can be compared. It
asks for greedy answers through the public API only and knows neither emulator nor test.

    python answer.py '{"bundle": "B", "backend": "litert", "recipe": "w8", "prompts": [[5, 17]], "tokens": 8}'
"""

import dataclasses
import json
import sys
import time

import edgesdk
from edgesdk.devices.cpu import read_processor


def answer(request: dict) -> dict:
    started = time.perf_counter()
    options = {"max_tokens": request["tokens"], "ignore_eos": True, "logprobs": 1}
    # Bundles may recommend sampling, which another architecture would only repeat by luck.
    greedy = {"temperature": 0.0, "repetition_penalty": 1.0}
    with edgesdk.load(
        request["bundle"], backend=request["backend"], recipe=request["recipe"], threads=1, strict=True
    ) as model:
        answers = [model.generate(prompt, **options, **greedy) for prompt in request["prompts"]]
        receipt = dataclasses.asdict(model.receipt)
    return {
        "processor": dataclasses.asdict(read_processor()),
        "receipt": receipt,
        "tokens": [list(each.tokens) for each in answers],
        "logprobs": [[token.logprob for token in each.logprobs or ()] for each in answers],
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(sys.argv[1]))))
