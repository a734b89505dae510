"""Generated requests against `edgesdk serve`, by schemathesis and the server's own description of itself.

    python benchmarks/serve_fuzz.py [--requests 10000] [--schemathesis PATH] [--trust-grammars]

Serves a tiny model with a template that knows tools, has schemathesis make requests that fit the description
and requests that do not, and fails if any answer is an error of the server (5xx), or if it is gone, or holds
requests in the end. Counts answers by status.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path

from peer import make_environment
from serve_clients import KEY, asked, served, with_tools

ROOT = Path(__file__).resolve().parents[1]
VERSION = "4.32.5"
CONTEXT = 192


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000, help="about how many requests")
    parser.add_argument("--schemathesis", type=Path, help="the command, where it is installed already")
    parser.add_argument(
        "--trust-grammars", action="store_true", help="compile grammars in the server's process"
    )
    arguments = parser.parse_args()
    command = arguments.schemathesis or make_environment(
        f"schemathesis-{VERSION}", [f"schemathesis=={VERSION}"]
    ).with_name("st")
    options = ["--trust-grammars"] if arguments.trust_grammars else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = with_tools(tiny_bundle(folder), folder / "tooled")
        with served(bundle, *options) as url:
            counted, failed = fuzz(command, url, arguments.requests, folder)
            asked("/v1/models", url)  # it lives
            lines = [line for line in text(url + "/metrics") if not line.startswith("#")]
            figures = dict(line.rsplit(" ", 1) for line in lines)
    for status, count in sorted(counted.items()):
        print(f"{status}: {count}")
    print(f"requests: {sum(counted.values())}")
    for name in ("running", "waiting"):
        held = float(figures[f'edgesdk_{name}{{model="tooled"}}'])
        print(f"{name} in the end: {held:.0f}")
        failed |= held != 0
    failed |= any(status >= 500 for status in counted)
    print("FAILED" if failed else "no server's error")
    return int(failed)


def tiny_bundle(folder: Path) -> Path:
    """A tiny model, converted."""
    bundle = folder / "tiny"
    source = ROOT / "tests" / "data" / "tiny" / "llama"
    command = [sys.executable, "-m", "edgesdk", "convert", str(source), str(bundle)]
    command += ["--recipe", "f32", "--target", "litert", "--context", str(CONTEXT)]
    subprocess.run(command, check=True, capture_output=True)
    return bundle


def fuzz(command: Path, url: str, requests: int, folder: Path) -> tuple[Counter[int], bool]:
    """Statuses of the answers, and whether schemathesis found an error of the server's."""
    paths = json.loads("".join(text(url + "/openapi.json")))["paths"]
    report = folder / "requests.ndjson"
    line = [str(command), "run", f"{url}/openapi.json", "-H", f"Authorization: Bearer {KEY}"]
    line += ["--checks", "not_a_server_error", "--mode", "all", "--phases", "examples,coverage,fuzzing"]
    line += ["--max-examples", str(max(1, requests // len(paths))), "--workers", "4", "--seed", "1"]
    line += ["--continue-on-failure", "--request-timeout", "120", "--generation-database", "none"]
    line += ["--suppress-health-check", "all", "--report", "ndjson", "--report-ndjson-path", str(report)]
    done = subprocess.run(line, check=False, capture_output=True, text=True, cwd=folder)
    print(done.stdout[-6000:])
    statuses = re.findall(r'"status_code":\s*(\d+)', report.read_text(encoding="utf-8", errors="replace"))
    # Its own faults (in 4.32.5 on CPython 3.11, one in what prints a strategy) are not the server's.
    broke = "Server error" in done.stdout or "Network Error" in done.stdout
    return Counter(map(int, statuses)), broke


def text(url: str) -> list[str]:
    """Lines of a document of the server's."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode().splitlines()


if __name__ == "__main__":
    sys.exit(main())
