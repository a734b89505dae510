"""Many streaming clients at once, some of whom go in mid-answer: are answers right, does anything stay?

    python benchmarks/serve_soak.py BUNDLE [--seconds 600] [--clients 64] [--exact] [--json]

Each client asks for one of a few words, which a grammar puts at the beginning, streams the answer and looks
whether it is its own. With `--exact`, for bundles whose answers do not depend on their company (f32, see
docs/engine.md), it must be the very answer that was given to that question alone. A third of the clients
go at a random token. In the end nothing may run or wait, no cell be used but by the prefix cache, and the
resident memory of the last half not have grown by more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from serve_clients import KEY, served

WORDS = ("Amber", "Birch", "Cobalt", "Delta", "Ember", "Flint", "Garnet", "Hazel")
_TOKENS = 32
_QUEUE = 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--exact", action="store_true", help="answers must be those given alone")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    with served(arguments.bundle, "--max-queue", str(_QUEUE)) as url:
        server = next(p for p in psutil.Process().children() if "serve" in p.cmdline())
        found = asyncio.run(soak(url, server, arguments.seconds, arguments.clients, arguments.exact))
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}")
    sound = not found["wrong"] and not found["errors"] and not found["held in the end"]
    return 0 if sound and found["growth of memory"] <= 1.05 else 1


async def soak(
    url: str, server: psutil.Process, seconds: float, clients: int, exact: bool
) -> dict[str, object]:
    counted: Counter[str] = Counter()
    alone: list[float] = []
    known: dict[str, str] = {}
    for word in WORDS:
        await ask(url, word, None, alone, known)
    gaps: list[float] = []
    memory: list[tuple[float, int]] = []
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < end:
            word = rng.choice(WORDS)
            goes = rng.randint(1, _TOKENS - 4) if rng.random() < 1 / 3 else None
            outcome = await ask(url, word, goes, gaps, known if exact else {})
            counted[outcome] += 1

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append((time.monotonic(), server.memory_info().rss))
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *(client(number) for number in range(clients)))
    await asyncio.sleep(2)
    figures = await metrics(url)
    held = figures["edgesdk_running"] + figures["edgesdk_waiting"]
    held += figures["edgesdk_cells_used"] - figures["edgesdk_cached_cells"]
    half = [rss for _, rss in memory[len(memory) // 2 :]]
    quarter = max(1, len(half) // 2)
    return {
        "seconds": seconds,
        "clients": clients,
        "answers": counted["right"],
        "gone": counted["gone"],
        "wrong": counted["wrong"],
        "errors": counted["error"],
        "held in the end": held,
        "tokens/s": round(len(gaps) / seconds, 1),
        "alone p50, p99 ms": [round(percentile(alone, share) * 1e3, 2) for share in (50, 99)],
        "between p50, p99 ms": [round(percentile(gaps, share) * 1e3, 2) for share in (50, 99)],
        "memory MB": [round(min(rss for _, rss in memory) / 1e6), round(max(rss for _, rss in memory) / 1e6)],
        "growth of memory": round(statistics.mean(half[-quarter:]) / statistics.mean(half[:quarter]), 4),
    }


async def ask(url: str, word: str, goes: int | None, gaps: list[float], known: dict[str, str]) -> str:
    """One answer: `right`, `wrong`, `gone` or `error`; the first to a question is kept as known."""
    document = {
        "messages": [{"role": "user", "content": f"Say {word} and go on."}],
        "regex": f"{word}(.|\\n)*",
        "max_tokens": _TOKENS,
        "temperature": 0,
        "stream": True,
    }
    said, before, tokens = "", None, 0
    async for event in events(url, document):
        if "error" in event:
            return "error"
        said += event["choices"][0]["delta"].get("content") or ""
        if event["choices"][0]["finish_reason"]:
            sound = said.startswith(word) and said == known.setdefault(word, said)
            return "right" if sound else "wrong"
        now = time.perf_counter()
        if before is not None and tokens > 1:
            gaps.append(now - before)
        before, tokens = now, tokens + 1
        if goes is not None and tokens > goes:
            return "gone"
    return "error"


async def events(url: str, document: dict[str, object]):
    """The events of a stream, on a connection of its own, which closes with the iterator."""
    host, port = urlsplit(url).netloc.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        body = json.dumps(document).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        if b" 200 " not in await reader.readline():
            yield {"error": "refused"}
            return
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
            elif line.startswith(b"data: [DONE]"):
                return
    finally:
        writer.close()


async def metrics(url: str) -> dict[str, float]:
    """The gauges of the one model."""
    host, port = urlsplit(url).netloc.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEY}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    lines = (await reader.read()).decode().splitlines()
    writer.close()
    found = (line.rsplit(" ", 1) for line in lines if line.startswith("edgesdk_") and "_bucket" not in line)
    return {name.partition("{")[0]: float(value) for name, value in found}


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1] if len(values) > 1 else 0.0


if __name__ == "__main__":
    sys.exit(main())
