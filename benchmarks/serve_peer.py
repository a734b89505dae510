"""`edgesdk serve` beside llama.cpp's server: tokens per second of several clients that stream at once.

    python benchmarks/serve_peer.py BUNDLE... --gguf FILE (--llama-server PATH | --llama-python PYTHON)
        [--clients 8] [--tokens 64] [--rounds 5] [--json]

All servers are up for the whole run, idle while it is not their turn. In each round each of them answers
every client's question, one after the other server; the clients begin together and read to the end. Tokens
are counted by the servers' own usage. Processor seconds are those of the server's process, so they stay
comparable on a busy machine, where wall time does not.

PATH is a built `llama-server` (continuous batching, a slot for each client), the peer that counts;
llama-cpp-python's server (`--llama-python`, its extra `server`) answers one request at a time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from serve_clients import KEY

HERE = Path(__file__).parent
_START_S = 180
_SLOT_TOKENS = 1024


@dataclass
class Server:
    """A server that is up, and what it was measured at.

    Attributes:
        name: for the table.
        url: its address.
        process: its first process.
    """

    name: str
    url: str
    process: psutil.Process
    tokens_per_s: list[float] = field(default_factory=list)
    cpu_ms_per_token: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    gap_ms: list[float] = field(default_factory=list)

    def cpu_s(self) -> float:
        """Processor seconds so far, of all its processes."""
        times = [each.cpu_times() for each in (self.process, *self.process.children(recursive=True))]
        return sum(each.user + each.system for each in times)


@dataclass(frozen=True)
class Read:
    """One answer: when its pieces came, in seconds from the question, and how many tokens it had."""

    times_s: tuple[float, ...]
    tokens: int


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, nargs="+")
    parser.add_argument("--gguf", type=Path, required=True)
    peer = parser.add_mutually_exclusive_group(required=True)
    peer.add_argument("--llama-server", type=Path, help="a built llama-server")
    peer.add_argument("--llama-python", type=Path, help="interpreter with llama-cpp-python[server]")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    questions = (HERE / "chat_questions.txt").read_text(encoding="utf-8").splitlines()
    with ExitStack() as stack:
        servers = [stack.enter_context(_peer(arguments))]
        servers += [stack.enter_context(_ours(path, arguments.threads)) for path in arguments.bundle]
        for number in range(arguments.rounds + 1):
            start = number * arguments.clients % (len(questions) - arguments.clients)
            asked = questions[start : start + arguments.clients]
            for server in servers:
                _measure(server, asked, arguments.tokens, keep=number > 0)  # the first round warms
    _report(servers, arguments.json)
    return 0


def _measure(server: Server, questions: Sequence[str], tokens: int, *, keep: bool) -> None:
    """One round: all clients at once."""
    found: list[Read | None] = [None] * len(questions)
    together = threading.Barrier(len(questions) + 1)

    def work(place: int) -> None:
        together.wait()
        found[place] = _read(server.url, questions[place], tokens)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(questions))]
    for thread in threads:
        thread.start()
    cpu_s = server.cpu_s()
    together.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    cpu_s = server.cpu_s() - cpu_s
    answers = [each for each in found if each is not None]
    if len(answers) < len(questions):
        raise SystemExit(f"{server.name} left {len(questions) - len(answers)} questions unanswered")
    if not keep:
        return
    count = sum(each.tokens for each in answers)
    server.tokens_per_s.append(count / took)
    server.cpu_ms_per_token.append(cpu_s / count * 1e3)
    for each in answers:
        server.first_ms.append(each.times_s[0] * 1e3)
        server.gap_ms.append((each.times_s[-1] - each.times_s[0]) / max(1, each.tokens - 1) * 1e3)


def _read(url: str, question: str, tokens: int) -> Read:
    """Streams one answer to its end."""
    asked = {
        "messages": [{"role": "user", "content": f"{question} Explain at length."}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{url} answered {answer.status}: {answer.read(500).decode(errors='replace')}")
    times: list[float] = []
    usage = None
    while line := answer.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        if event["choices"] and event["choices"][0]["delta"].get("content"):
            times.append(time.perf_counter() - began)
    connection.close()
    # A server without usage in its streams sends an event for each token.
    return Read(tuple(times), usage["completion_tokens"] if usage else len(times))


@contextmanager
def _ours(bundle: Path, threads: int) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "edgesdk", "serve", str(bundle)]
    command += ["--port", str(port), "--threads", str(threads)]
    with _up(f"edgesdk {bundle.name}", command, port) as server:
        yield server


@contextmanager
def _peer(arguments: argparse.Namespace) -> Iterator[Server]:
    port, threads = _free_port(), str(arguments.threads)
    if arguments.llama_server is not None:
        context = str(_SLOT_TOKENS * arguments.clients)
        command = [str(arguments.llama_server), "-m", str(arguments.gguf), "--port", str(port)]
        command += ["-np", str(arguments.clients), "-c", context, "-t", threads, "-tb", threads]
        name = "llama-server"
    else:
        command = [str(arguments.llama_python), "-m", "llama_cpp.server", "--model", str(arguments.gguf)]
        command += ["--port", str(port), "--n_threads", threads, "--n_threads_batch", threads]
        command += ["--n_ctx", str(_SLOT_TOKENS), "--interrupt_requests", "false"]
        name = "llama_cpp.server"
    with _up(f"{name} {arguments.gguf.stem.rpartition('.')[2]}", command, port) as server:
        yield server


@contextmanager
def _up(name: str, command: Sequence[str], port: int) -> Iterator[Server]:
    """Starts a server and waits until it has its model."""
    environment = {**os.environ, "EDGESDK_API_KEY": KEY}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            end = time.monotonic() + _START_S
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    lines = said.read().decode(errors="replace").strip().splitlines()
                    raise SystemExit(f"{name} did not start: {lines[-1] if lines else process.returncode}")
                time.sleep(0.2)
            yield Server(name, f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait(60)


def _ready(port: int) -> bool:
    # llama-server lists its model before it has it, and says so by its health; others may have no such path.
    return _status(port, "/v1/models") == 200 and _status(port, "/health") in (200, 404)


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _report(servers: Sequence[Server], as_json: bool) -> None:
    peer = servers[0]
    rows = [
        {
            "server": each.name,
            "tokens/s": round(statistics.median(each.tokens_per_s), 1),
            "ratio": round(_ratio(each.tokens_per_s, peer.tokens_per_s), 2),
            "cpu ms/token": round(statistics.median(each.cpu_ms_per_token), 2),
            "cpu ratio": round(_ratio(peer.cpu_ms_per_token, each.cpu_ms_per_token), 2),
            "first ms": round(statistics.median(each.first_ms)),
            "between ms": round(statistics.median(each.gap_ms), 1),
        }
        for each in servers
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print("  ".join(f"{row[key]!s:>{26 if key == 'server' else 12}}" for key in rows[0]))


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the rounds' ratios: what slows both down at a time falls out."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


if __name__ == "__main__":
    sys.exit(main())
