"""Real clients, unchanged, against `edgesdk serve`: each asks, streams, calls a tool, and reads what it gets.

    python benchmarks/serve_clients.py BUNDLE [--client NAME ...] [--python PATH]

The bundle (of a model for chats) is copied with a template that knows tools and has a switch for thinking,
so that every part of an interface is there to be tried; what the model says does not matter, what a client
makes of it does. Each client of `clients/` runs in an environment of its own with the versions below, or with
`--python` in one that has them. Exit code 1 if one fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peer import make_environment

HERE = Path(__file__).parent
KEY = "a-key-for-the-clients"

CLIENTS: dict[str, Sequence[str]] = {
    "openai": ("openai==3.57.0", "pydantic"),
    "anthropic": ("anthropic==2.14.0",),
    "ollama": ("ollama==0.6.3",),
    "litellm": ("litellm==1.110.2",),
    "llm": ("llm==0.36",),
    "langchain": ("langchain-openai==1.7.4",),
    "node": (),
}
"""What each is installed with; `node` takes openai 7.55.0 and the Vercel AI SDK from npm."""

NODE_PACKAGES = ("openai@7.55.0", "ai@6", "@ai-sdk/openai-compatible@2", "zod@4")

TEMPLATE = """\
{% if tools %}<|im_start|>system
You may call functions. Functions:
{% for t in tools %}{{ t | tojson }}
{% endfor %}Write a call as <tool_call>{"name": ..., "arguments": ...}</tool_call>.<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>
{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{% endif %}"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--client", action="append", choices=list(CLIENTS), help="one of them; may be repeated"
    )
    parser.add_argument("--python", type=Path, help="interpreter that has all of them")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = with_tools(arguments.bundle, Path(folder) / "tooled")
        with served(bundle) as url:
            for name in arguments.client or CLIENTS:
                began = time.monotonic()
                done = run_client(name, url, arguments.python, Path(folder))
                print(
                    f"{'passed' if not done else 'FAILED'} {name} in {time.monotonic() - began:.1f} s",
                    flush=True,
                )
                if done:
                    failed.append(name)
    return 1 if failed else 0


def with_tools(bundle: Path, target: Path) -> Path:
    """A copy of a bundle whose template knows tools and thinking; weights are linked."""
    shutil.copytree(bundle, target, copy_function=_link)
    (target / "chat_template.jinja").unlink()
    (target / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    path = target / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    record = document["files"]["chat_template.jinja"]
    record.update(sha256=hashlib.sha256(TEMPLATE.encode()).hexdigest(), size_bytes=len(TEMPLATE.encode()))
    path.unlink()
    path.write_text(json.dumps(document), encoding="utf-8")
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def served(bundle: Path, *options: str) -> Iterator[str]:
    """A server of a bundle on a free port; gives its address."""
    command = [sys.executable, "-m", "edgesdk", "serve", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "EDGESDK_API_KEY": KEY}
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("serving "):
                yield line.partition(" at ")[2].split()[0]
                break
            print(line, end="")
        else:
            raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.stderr.read()
        process.wait(60)


def run_client(name: str, url: str, python: Path | None, folder: Path) -> int:
    environment = {**os.environ, "SERVED": url, "SERVED_KEY": KEY, "LLM_USER_PATH": str(folder)}
    environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks another host
    if name == "node":
        home = folder / "node"
        home.mkdir()
        subprocess.run(["npm", "install", "--silent", "--prefix", str(home), *NODE_PACKAGES], check=True)
        script = home / "client.mjs"
        shutil.copy(HERE / "clients" / "node_client.mjs", script)
        return subprocess.run(["node", str(script)], env=environment, check=False).returncode
    if python is None:
        pinned = CLIENTS[name][0].replace("==", "-")
        python = make_environment(f"serve-client-{pinned}", CLIENTS[name])
    command = [str(python), str(HERE / "clients" / f"{name}_client.py")]
    return subprocess.run(command, env=environment, check=False).returncode


def asked(path: str, url: str) -> object:
    """A document of the server's."""
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
