"""Times steps of several tokens of one variant; run by benchmarks/step_cost.py.

The settings are one JSON argument. Every line `{"prompt": S, "new": T}` runs T tokens after S, with logits
after each, and forgets them: as drafts where the checkout judges those, else as a text that is scored, which
copies its logits once more. One run sets up, and the least of a few others counts. Only the public API is
used, so that an older checkout can be measured, too.
"""

import json
import sys
import time

import numpy as np

from edgesdk import load

RUNS = 4


def main() -> None:
    settings = json.loads(sys.argv[1])
    names = ("backend", "variant", "threads")
    model = load(settings["model"], strict=True, **{name: settings[name] for name in names})
    sequence = model.new_sequence()
    spread = min(40000, settings["vocab_size"] - 100)
    text = ((100 + 37 * np.arange(settings["context"])) % spread).astype(np.int32)

    def step(tokens: np.ndarray) -> None:
        if len(tokens) == 1:
            sequence.extend(tokens)
        elif hasattr(sequence, "judge"):
            chain = np.arange(-1, len(tokens) - 2, dtype=np.int32)
            sequence.judge(tokens[:1], tokens[1:], chain, lambda rows: [])
        else:
            sequence.score(tokens)

    print(json.dumps({"ready": model.receipt.backend}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        held, tokens = request["prompt"], request["new"]
        if sequence.length > held:
            sequence.truncate(held)
        if sequence.length < held:
            sequence.extend(text[sequence.length : held])
        wall, processor = [], []
        for _ in range(RUNS + 1):
            cpu_began, began = time.process_time(), time.perf_counter()
            step(text[held : held + tokens])
            wall.append(time.perf_counter() - began)
            processor.append(time.process_time() - cpu_began)
            sequence.truncate(held)
        print(json.dumps({"wall_ms": min(wall[1:]) * 1e3, "cpu_ms": min(processor[1:]) * 1e3}), flush=True)


main()
