"""Drafts beside llama.cpp's own lookup program, on the tasks of drafts.py.

    python benchmarks/llama_lookup.py BUNDLE LLAMA_LOOKUP MODEL.gguf [--recipe w4b32-round] [--threads 1]
        [--draft lookup]

LLAMA_LOOKUP is the program `llama-lookup` of llama.cpp's examples, MODEL.gguf the same model. Each task is
answered four ways in turn, the order changing with every task: ours plainly and with `--draft`, and the
program without drafted tokens (`--spec-draft-n-max 0`) and with as many as it takes by itself. Answers are
greedy, up to as many tokens. The figure is decode speed, from the first token to the last: the program's own,
by the clock, and ours by the clock too, so the machine should have nothing else to do. The program draws its
n-grams from the prompt and the answer, as ours does; it drafts at every step, whether it pays or not.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from pathlib import Path

import click
from drafts import COPYING, decode, read_tasks, with_drafter

import edgesdk
from edgesdk.model import Model

_ENCODED = re.compile(r"encoded\s+(\d+) tokens in")
_DECODED = re.compile(r"decoded\s+(\d+) tokens in\s+([\d.]+) seconds")
_ACCEPTED = re.compile(r"n_drafted\s*=\s*(\d+)(?s:.*)n_accept\s*=\s*(\d+)")
WAYS = "plain", "drafted", "program plain", "program lookup"


class LookupProgram:
    """llama.cpp's `llama-lookup` on one file."""

    def __init__(self, program: Path, model: Path, threads: int, context: int) -> None:
        self._command = [str(program), "--model", str(model), "--threads", str(threads)]
        self._command += ["--threads-batch", str(threads), "--ctx-size", str(context), "--temp", "0"]
        self._command += ["--repeat-penalty", "1.0"]

    def seconds(self, text: str, prompt_tokens: int, tokens: int, *, draft: bool) -> tuple[float, str]:
        """Seconds for a token of an answer, and what was kept of what was drafted.

        Args:
            text: the prompt as the chat template wrote it.
            prompt_tokens: that it must have.
            tokens: most of the answer.
            draft: whether it looks up.

        Raises:
            ClickException: the program fails or reads other tokens.
        """
        command = [*self._command, "--prompt", text, "--predict", str(tokens)]
        if not draft:
            command += ["--spec-draft-n-max", "0"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        said = done.stdout + done.stderr
        encoded, decoded, accepted = (each.search(said) for each in (_ENCODED, _DECODED, _ACCEPTED))
        if done.returncode or not encoded or not decoded or not accepted:
            raise click.ClickException(f"llama-lookup ended with {done.returncode}: {said[-300:]}")
        if int(encoded[1]) != prompt_tokens:
            raise click.ClickException(f"llama-lookup read {encoded[1]} tokens instead of {prompt_tokens}")
        return float(decoded[2]) / int(decoded[1]), f"{accepted[2]} of {accepted[1]}"


def measure(
    plain: Model, drafted: Model, program: LookupProgram, prompt: str, tokens: int, turn: int
) -> tuple[dict[str, float], dict[str, str]] | None:
    """Seconds for a token by way, and what was kept by way; None where the answer says too little."""
    ids = plain.render_prompt(prompt)
    text = plain.tokenizer.decode(ids, skip_special=False)
    taken: dict[str, float] = {}
    kept: dict[str, str] = {}
    for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
        if way.startswith("program"):
            taken[way], kept[way] = program.seconds(text, len(ids), tokens, draft=way.endswith("lookup"))
            continue
        answer, wall, _ = decode(drafted if way == "drafted" else plain, ids, tokens)
        if len(answer.tokens) < 9:
            return None
        taken[way] = wall / (len(answer.tokens) - 1)
        kept[way] = f"{answer.kept_tokens} of {answer.drafted_tokens}"
    return taken, kept


def ratios(taken: dict[str, float]) -> dict[str, float]:
    """Decode speeds over one another."""
    return {
        "ours": taken["plain"] / taken["drafted"],
        "program's": taken["program plain"] / taken["program lookup"],
        "plain, ours over program's": taken["program plain"] / taken["plain"],
        "drafted, ours over program's lookup": taken["program lookup"] / taken["drafted"],
        "drafted, ours over program's plain": taken["program plain"] / taken["drafted"],
    }


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("program", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--recipe", default=None, help="Only variants of this recipe.")
@click.option("--draft", default="lookup", show_default=True, help="Ours, as for `edgesdk run`.")
@click.option("--tokens", default=128, show_default=True, help="Most tokens of an answer.")
@click.option("--threads", default=1, show_default=True, help="CPU threads, of both.")
@click.option("--kinds", default="quotes,edit,form,json,chat", show_default=True, help="Kinds of tasks.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(
    bundle: Path,
    program: Path,
    model: Path,
    recipe: str | None,
    draft: str,
    tokens: int,
    threads: int,
    kinds: str,
    json_path: Path | None,
) -> None:
    """Measures drafts on BUNDLE beside the PROGRAM llama-lookup on MODEL."""
    found: list[tuple[str, dict[str, float]]] = []
    with edgesdk.load(bundle, recipe=recipe, threads=threads, strict=True) as plain:
        click.echo(str(plain.receipt))
        peer = LookupProgram(program, model, threads, plain.context)
        drafted, source, _ = with_drafter(plain, draft, threads)
        decode(plain, plain.render_prompt("Hello"), 16)  # builds what is built with first use
        for turn, task in enumerate(read_tasks(kinds.split(","))):
            measured = measure(plain, drafted, peer, task.prompt, tokens, turn)
            if measured is None:
                continue
            found.append((task.kind, ratios(measured[0])))
            said = "  ".join(
                f"{way} {1 / measured[0][way]:.0f}/s ({measured[1][way]})"
                for way in WAYS
                if way in measured[0]
            )
            click.echo(f"{task.kind:8} {said}")
        source.close()
    groups = {kind: [r for k, r in found if k == kind] for kind in dict.fromkeys(k for k, _ in found)}
    groups["all that copy"] = [r for k, r in found if k in COPYING]
    summary = {
        name: {key: statistics.median(each[key] for each in group) for key in group[0]}
        for name, group in groups.items()
        if group
    }
    for name, figures in summary.items():
        click.echo(f"{name:14} " + "  ".join(f"{key} {value:.2f}" for key, value in figures.items()))
    if json_path is not None:
        json_path.write_text(json.dumps({"summary": summary, "tasks": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
