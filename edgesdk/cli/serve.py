"""`edgesdk serve`: models for other programs, by the interfaces that they speak already."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.load_options import load_options_with_drafts
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.load_options import LoadOptions

KEY_VARIABLE = "EDGESDK_API_KEY"
_LONGEST_KEY_BYTES = 4096
_INTERRUPTED = 130  # as shells have it

EXAMPLES = """\b
Examples:
  edgesdk serve smollm2
  edgesdk serve smollm2 qwen3.edge --port 8000 --memory-limit 4096
  edgesdk serve
  EDGESDK_API_KEY=... edgesdk serve smollm2 --host 0.0.0.0 --allow-host box.example
"""


@click.command(short_help="Serve models to other programs.", epilog=EXAMPLES)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="N",
    help="Port to listen on; 0 for a free one.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"File with the key that clients must show. Default: ${KEY_VARIABLE}, else none, which only "
    "addresses of this machine allow.",
)
@click.option("--without-key", is_flag=True, help="Let other machines in without a key.")
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Name that clients may call this server by, besides its address and localhost; * for any. May be "
    "given several times. Default: none.",
)
@click.option(
    "--allow-origin",
    "allowed_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Origin of web pages that may ask it, such as http://localhost:3000. May be given several times. "
    "Default: its own page only.",
)
@click.option(
    "--memory-limit",
    "memory_limit_mb",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="Most memory for models; those that are idle give way. Default: half of the machine's.",
)
@click.option(
    "--idle-unload",
    "idle_unload_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Unload a model that nobody used for so long. Default: only where another needs the memory.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Most requests of a model that wait; others are told to come again.",
)
@click.option(
    "--trust-grammars",
    is_flag=True,
    help="Compile grammars and schemas of clients in this process, which is faster; else each new one is "
    "compiled in a process of its own first.",
)
@load_options_with_drafts
def command(
    models: Sequence[str],
    host: str,
    port: int,
    api_key_file: Path | None,
    without_key: bool,
    allowed_hosts: Sequence[str],
    allowed_origins: Sequence[str],
    memory_limit_mb: int | None,
    idle_unload_s: float | None,
    max_queue: int,
    trust_grammars: bool,
    loading: LoadOptions,
) -> int:
    """Serves MODELs by the interfaces of OpenAI, Anthropic and Ollama, and a page for chats.

    MODEL is a bundle's folder, its name, or a checkpoint, as for `edgesdk run`; without one, every model of
    the shelf is served, and loaded when it is first asked for. Models that are named are loaded before it
    answers, as far as the memory allows. docs/server.md lists paths and options.

    One line for each request that is refused goes to standard error. Ctrl-C ends it, with exit code 0 once
    the answers under way have ended or had 5 seconds; a second one at once, with 130.
    """
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.server.model_host import ModelHost, memory_bytes, served_names
    from edgesdk.server.serve import serve
    from edgesdk.server.server_options import ServerOptions

    options = ServerOptions(
        host=host,
        port=port,
        api_key=_read_key(api_key_file),
        without_key=without_key,
        allowed_hosts=tuple(allowed_hosts),
        allowed_origins=tuple(allowed_origins),
        memory_limit_mb=memory_limit_mb,
        idle_unload_s=idle_unload_s,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("edgesdk.server").setLevel(logging.INFO)
    served = served_names([(model.lower(), find_or_convert(model)) for model in models]) if models else None
    models_of = ModelHost(
        served,
        loading if trust_grammars else replace(loading, isolate_grammars=True),
        {"max_queue": max_queue},
        memory_bytes=memory_bytes(options),
        idle_s=idle_unload_s,
    )

    def ready(url: str) -> None:
        names = models_of.names
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        what = shown or "no model yet (edgesdk pull gets one)"
        click.echo(f"serving {what} at {url} (Ctrl-C ends it)", err=True)

    return 0 if serve(models_of, options, ready, preload=tuple(served or ())) else _INTERRUPTED


def _read_key(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        with path.open("rb") as stream:
            return stream.read(_LONGEST_KEY_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise UnsupportedOption(
            f"{path} cannot be read: {error.strerror or error}; give a file with the key"
        ) from error
