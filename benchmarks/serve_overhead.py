"""What HTTP costs over the Python API: time per token and to the first token, in turn, on one model.

    python benchmarks/serve_overhead.py BUNDLE [--rounds 20] [--tokens 64]

The same bundle is opened by an `edgesdk.Engine` in this process and by `edgesdk serve` in another; each round
streams one answer from each. The median difference is the server's: what it adds to a token is its event
loop, JSON, HTTP/1.1 by h11, the loopback, and the client here, which is Python's own and counts, too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from serve_clients import KEY, served

import edgesdk

MESSAGES = [{"role": "user", "content": "Tell me about the sea."}]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    firsts: dict[str, list[float]] = {"engine": [], "http": []}
    gaps: dict[str, list[float]] = {"engine": [], "http": []}
    with edgesdk.Engine(arguments.bundle) as engine, served(arguments.bundle) as url:
        for number in range(arguments.rounds + 2):
            for name, times in (
                ("engine", read_engine(engine, arguments.tokens)),
                ("http", read_http(url, arguments.tokens)),
            ):
                if number >= 2:  # the first rounds warm both
                    firsts[name].append(times[1] - times[0])
                    gaps[name].append((times[-1] - times[1]) / (len(times) - 2))
    found = {
        "first_token_ms": {name: statistics.median(values) * 1e3 for name, values in firsts.items()},
        "per_token_ms": {name: statistics.median(values) * 1e3 for name, values in gaps.items()},
        "added_first_ms": _added(firsts),
        "added_per_token_ms": _added(gaps),
    }
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name in ("engine", "http"):
        first, gap = found["first_token_ms"][name], found["per_token_ms"][name]
        print(f"{name:7} first token {first:8.2f} ms, then {gap:7.3f} ms per token")
    print(
        f"added   first token {found['added_first_ms']:8.2f} ms, then {found['added_per_token_ms']:7.3f} ms"
    )
    return 0


def _added(values: dict[str, list[float]]) -> float:
    """Median of the differences of rounds: what slows both down at a time falls out."""
    return statistics.median(b - a for a, b in zip(values["engine"], values["http"], strict=True)) * 1e3


def read_engine(engine: edgesdk.Engine, tokens: int) -> list[float]:
    """When it was asked, and when each piece was there."""
    times = [time.perf_counter()]
    for chunk in engine.stream(messages=MESSAGES, max_tokens=tokens, ignore_eos=True, temperature=0):
        if chunk.text:
            times.append(time.perf_counter())
    return times


def read_http(url: str, tokens: int) -> list[float]:
    """The same by HTTP, on a new connection."""
    asked = {"messages": MESSAGES, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    times = [time.perf_counter()]
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b'data: {"') and json.loads(line[6:])["choices"][0]["delta"].get("content"):
            times.append(time.perf_counter())
    connection.close()
    return times


if __name__ == "__main__":
    sys.exit(main())
