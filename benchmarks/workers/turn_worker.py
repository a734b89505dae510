"""Times loads, prompts and decoding of one variant once, and ends; run by benchmarks/in_turn.py.

The settings are one JSON argument, the figures one JSON line: milliseconds by wall and by processor time of
all threads. Only the public API is used, so that an older checkout can be measured, too.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from edgesdk import load

LOADS = 5
PROMPTS = 3

Times = tuple[float, float]


def timed(action: Callable[[], object]) -> Times:
    """What an action takes: wall and processor time in milliseconds."""
    processor, wall = time.process_time(), time.perf_counter()
    action()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - processor) * 1e3


def middle(times: list[Times]) -> Times:
    """The median of either."""
    wall, processor = zip(*times, strict=True)
    return statistics.median(wall), statistics.median(processor)


def main() -> None:
    settings = json.loads(sys.argv[1])
    options = {name: settings[name] for name in ("backend", "variant", "threads")}
    held = []

    def open_again() -> None:
        held.append(load(settings["model"], strict=True, **options))

    figures: dict[str, Times] = {"first load": timed(open_again)}
    again = []
    for _ in range(LOADS):
        held.pop().close()
        again.append(timed(open_again))
    figures["load"] = middle(again)
    (model,) = held
    sequence = model.new_sequence()
    spread = min(40000, settings["vocab_size"] - 100)
    text = ((100 + 37 * np.arange(settings["prompt"] + settings["new"])) % spread).astype(np.int32)

    def read_prompt() -> None:
        sequence.truncate(0)
        sequence.extend(text[: settings["prompt"]])

    read_prompt()
    figures["prompt"] = middle([timed(read_prompt) for _ in range(PROMPTS)])
    steps = [
        timed(lambda at=at: sequence.extend(text[at : at + 1]).argmax())
        for at in range(settings["prompt"], len(text))
    ]
    figures["decode"] = middle(steps)
    model.close()
    print(json.dumps(figures))


main()
