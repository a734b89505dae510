"""edgesdk beside its peers on the same weights, the same prompt tokens, the same threads, in one run.

    python benchmarks/peers.py BUNDLE... [--rounds 5] [--threads 2] [--json FILE] [--chart FILE]

Bundles hold the variants to measure (`edgesdk convert smollm2-135m BUNDLE --recipe w8,w4b32`). Each peer gets
an environment of its own in the cache folder on the first run (llama-cpp-python compiles for about ten
minutes), and its model is made from the same source. A peer that cannot be installed or run is a row with the
reason. Contenders are processes that stay loaded; rounds go round all of them, one at a time and every time
from another one, so that a change of the machine's speed meets all alike. Figures are medians; ratios are
against the best peer of each figure. Loads are new processes: cold, with files dropped from the page cache
and no packed weights kept, and warm, the next time.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from contender import Contender, ContenderError, turned
from peer_report import Row, show
from peer_setups import Entrant, Setup, SetupError, list_entrants
from plot_peers import draw

from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.devices.bandwidth import measure_bandwidth
from edgesdk.devices.cpu import read_processor
from edgesdk.errors import EdgeError
from edgesdk_converters.checkpoints.default_model import fetch_default_model


def counts(text: str) -> tuple[int, ...]:
    """Numbers of a list such as `128,512`.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers such as 128,512") from error
    if min(found) < 1:
        raise click.BadParameter(f"{text!r} has a number below 1")
    return found


def plan_requests(
    prefill: Sequence[int], decode: Sequence[int], new: int, context: int
) -> list[tuple[int, int]]:
    """Prompt and new tokens of each request of a round; one serves both where the numbers meet.

    Raises:
        click.ClickException: one does not fit the context.
    """
    requests = []
    for prompt in sorted({*prefill, *decode}):
        room = context - prompt - 1
        if room < (1 if prompt in decode else 0):
            raise click.ClickException(
                f"{prompt} tokens do not fit the context of {context} with any after them"
            )
        requests.append((prompt, min(new, room) if prompt in decode else 0))
    return requests


def start(entrant: Entrant, setup: Setup, common: dict[str, int]) -> Contender:
    """A contender that stays loaded."""
    return Contender(
        entrant.name,
        setup.worker,
        {**setup.settings, **common},
        python=setup.python,
        environment=setup.environment,
    )


def measure_loads(entrant: Entrant, setup: Setup, common: dict[str, int], row: Row) -> None:
    """One cold load and one warm, each by a new process."""
    with tempfile.TemporaryDirectory() as empty:
        for kind in ("cold", "warm"):
            if kind == "cold":
                drop_from_page_cache(setup.files)
            isolated = Setup(
                setup.worker, setup.python, setup.settings, setup.files, {"EDGESDK_CACHE": str(Path(empty))}
            )
            contender = start(entrant, isolated, common)
            row.loads.setdefault(kind, []).append(contender.ready["load_to_first_token_ms"])
            contender.close()


def drop_from_page_cache(files: Iterable[Path]) -> None:
    """Asks the system to forget files; it may not, where others still map them."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def set_up_all(entrants: Iterable[Entrant], only: str) -> list[tuple[Entrant, Setup | None, Row]]:
    """Entrants whose name contains one of the words, set up; those that fail have the reason in their row."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    found = []
    for entrant in entrants:
        if words and not any(word in entrant.name for word in words):
            continue
        row = Row(entrant.name, entrant.is_peer)
        setup = None
        try:
            setup = entrant.set_up()
            row.file_bytes = setup.file_bytes
        except SetupError as error:
            row.reason = str(error)
            click.echo(f"{entrant.name}: {error}", err=True)
        found.append((entrant, setup, row))
    return found


def run_rounds(
    field: Sequence[tuple[Entrant, Setup | None, Row]],
    requests: Sequence[tuple[int, int]],
    rounds: int,
    loads: int,
    common: dict[str, int],
) -> None:
    """Measures everything into the rows; who fails on the way gets its reason there and drops out."""
    able = [(entrant, setup, row) for entrant, setup, row in field if setup is not None]
    for _ in range(loads):
        for entrant, setup, row in able:
            if row.reason is None:
                with failing_into(row):
                    measure_loads(entrant, setup, common, row)
    rows: dict[str, Row] = {}
    running: list[Contender] = []
    for entrant, setup, row in able:
        if row.reason is None:
            with failing_into(row):
                contender = start(entrant, setup, common)
                row.version = contender.ready["ready"]
                rows[contender.name] = row
                running.append(contender)
    for round_number in range(rounds + 1):
        for prompt, new in requests:
            for contender in turned(running, round_number):
                row = rows[contender.name]
                if row.reason is None:
                    with failing_into(row):
                        figures = contender.measure(prompt, new)
                        if round_number:  # the first one warms up
                            row.add(prompt, figures)
        click.echo(f"round {round_number} of {rounds}", err=True)
    for contender in running:
        rows[contender.name].peak_rss_bytes = contender.peak_rss_bytes()
        contender.close()


class failing_into:  # noqa: N801 - reads as the verb that it is
    """A block whose contender may end early: the reason goes into its row."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ContenderError):
            return False
        self._row.reason = str(error)
        click.echo(f"{self._row.name}: {error}", err=True)
        return True


@click.command()
@click.argument(
    "bundles",
    metavar="BUNDLE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--source", type=click.Path(exists=True, path_type=Path), help="GGUF file; default: the demo's")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="after one for warmth"
)
@click.option("--loads", type=click.IntRange(min=0), default=3, show_default=True, help="cold and warm loads")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--prefill", default="128,512,2000", show_default=True, help="prompt lengths")
@click.option("--decode", default="64,512,2000", show_default=True, help="tokens before the decoded ones")
@click.option(
    "--new-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="to decode, at most"
)
@click.option("--only", default="", help="only contenders with one of these words in their name, by commas")
@click.option("--peer-python", "given", multiple=True, help="NAME=PYTHON: an interpreter that has the peer")
@click.option(
    "--litert-lm",
    type=click.Path(exists=True, path_type=Path),
    help="a .litertlm file of the model, or a folder of some; default: made",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write every round to this file")
@click.option("--chart", type=click.Path(path_type=Path), help="draw it (needs matplotlib)")
def main(
    bundles: tuple[Path, ...],
    source: Path | None,
    rounds: int,
    loads: int,
    threads: int,
    prefill: str,
    decode: str,
    new_tokens: int,
    only: str,
    given: tuple[str, ...],
    litert_lm: Path | None,
    json_file: Path | None,
    chart: Path | None,
) -> None:
    """Prints medians, spread and ratios of every contender."""
    pythons = {}
    for text in given:
        name, found, python = text.partition("=")
        if not found:
            name, python = "llama.cpp", text
        pythons[name] = Path(python)
    try:
        opened = [open_bundle(bundle) for bundle in bundles]
        gguf = source or fetch_default_model("smollm2-135m")
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    context = _context(opened)
    requests = plan_requests(counts(prefill), counts(decode), new_tokens, context)
    common = {
        "threads": threads,
        "context": context,
        "vocab_size": opened[0].manifest.decoder.vocab_size,
    }
    field = set_up_all(list_entrants(opened, gguf, pythons, litert_lm), only)
    if not field:
        raise click.ClickException(f"no contender has {only!r} in its name")
    bandwidth = measure_bandwidth(threads, budget_s=2)
    run_rounds(field, requests, rounds, loads, common)
    bandwidth = max(bandwidth, measure_bandwidth(threads, budget_s=2))
    rows = [row for _, _, row in field]
    machine = describe_machine(threads, bandwidth)
    click.echo(f"{rounds} rounds; {machine}\n")
    show(rows, counts(prefill), counts(decode), bandwidth)
    document = {
        "machine": machine,
        "threads": threads,
        "rounds": rounds,
        "bandwidth_bytes_per_s": bandwidth,
        "rows": [row.as_json(bandwidth) for row in rows],
    }
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if chart is not None:
        draw(document, chart)


def describe_machine(threads: int, bandwidth: float) -> str:
    """What figures depend on, in a line: the instruction sets above all."""
    processor = read_processor()
    sets = ", ".join(processor.features) or "instruction sets unknown"
    return (
        f"{processor.cores} cores ({processor.architecture}: {sets}), {threads} threads, "
        f"memory {bandwidth / 1e9:.1f} GB/s"
    )


def _context(bundles: Sequence[Bundle]) -> int:
    return min(variant.context for bundle in bundles for variant in bundle.manifest.variants)


if __name__ == "__main__":
    main()
