"""Greedy texts of a pruned bundle against those of the full one, token by token.

    python benchmarks/greedy_agreement.py FULL PRUNED [--variant litert-f32] [--stays 100] [--json FILE]

Prompts are the questions of benchmarks/prompts.txt and then pieces of the texts of
benchmarks/texts.py, until so many full texts stay in the kept vocabulary. Prompts with a dropped token are
left out and counted: they are other tokens there. Where the full model writes a dropped token, the texts
must be equal up to it. A difference before that is a miss, and is a near-tie when the full model's logits
of the two tokens lie within 0.001.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from texts import TEXTS

import edgesdk
from edgesdk.bundle.id_map import IdMap, read_id_map
from edgesdk.bundle.manifest import ID_MAP_NAME
from edgesdk.errors import EdgeError
from edgesdk.evaluation.greedy import NEAR_TIE
from edgesdk.model import Model

_EVERY_CHARACTERS = 500
_PROMPT_CHARACTERS = 60


@dataclass
class Counts:
    """What became of the prompts.

    Attributes:
        prompts: whose tokens are all kept.
        other_prompts: left out because a token of theirs is dropped.
        stays: full texts all of whose tokens are kept.
        identical: of these, with the same pruned text.
        leaves: full texts that come to a dropped token.
        identical_before: of these, with the same pruned text up to it.
        near_ties: other texts whose first difference is a near-tie.
        diverged: the rest.
        compared_tokens: of all texts, up to a dropped token.
    """

    prompts: int = 0
    other_prompts: int = 0
    stays: int = 0
    identical: int = 0
    leaves: int = 0
    identical_before: int = 0
    near_ties: int = 0
    diverged: int = 0
    compared_tokens: int = 0


def prompts(model: Model, questions: Path) -> Iterator[tuple[str, list[int]]]:
    """Prompts with their tokens: questions in the chat template, then pieces of every text by turns."""
    for line in questions.read_text(encoding="utf-8").splitlines():
        yield line, model.render_prompt(line)
    sources = [" ".join(make().text.split()) for make in TEXTS.values()]
    for start in range(0, max(map(len, sources)), _EVERY_CHARACTERS):
        for source in sources:
            # At spaces, so that both tokenizers see whole words.
            text = source[start : start + _PROMPT_CHARACTERS].partition(" ")[2].rpartition(" ")[0]
            if text:
                yield text, model.tokenize(text)


def compare(full: Model, pruned: Model, ids: IdMap, prompt: list[int], tokens: int, counts: Counts) -> str:
    """Generates one text with both and counts it; a word about it."""
    mine = ids.to_new(prompt)
    if None in mine:
        counts.other_prompts += 1
        return "prompt has a dropped token"
    counts.prompts += 1
    expected = _greedy(full, prompt, tokens)
    new = ids.to_new(expected)
    end = new.index(None) if None in new else len(new)
    found = _greedy(pruned, [token for token in mine if token is not None], tokens)
    found = ids.to_old(found)[: end if end < len(new) else None]
    counts.compared_tokens += end
    stays = end == len(expected)
    counts.stays += stays
    counts.leaves += not stays
    if found == expected[:end]:
        counts.identical += stays
        counts.identical_before += not stays
        return "identical" if stays else f"identical up to a dropped token at {end}"
    at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
    if at is None:
        counts.diverged += 1
        return "one text ends early"
    row = full.score(np.array(prompt + expected[:at], np.int32))[-1]
    gap = float(row[expected[at]] - row[found[at]])
    counts.near_ties += gap < NEAR_TIE
    counts.diverged += gap >= NEAR_TIE
    return f"differs at {at}, gap {gap:.5f}"


def _greedy(model: Model, prompt: list[int], tokens: int) -> list[int]:
    completion = model.generate(prompt, max_tokens=tokens, temperature=0.0, repetition_penalty=1.0)
    return list(completion.tokens)


@click.command()
@click.argument("full", type=click.Path(exists=True, file_okay=False))
@click.argument("pruned", type=click.Path(exists=True, file_okay=False))
@click.option("--variant", default="litert-f32", show_default=True, help="of both bundles")
@click.option("--stays", default=100, show_default=True, help="texts that must stay in the kept vocabulary")
@click.option("--tokens", default=16, show_default=True, help="tokens of a text, at most")
@click.option("--prompts", "questions", default=str(Path(__file__).parent / "prompts.txt"), show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the counts to this file")
@click.option("--list", "listed", is_flag=True, help="say what became of every prompt")
def main(
    full: str,
    pruned: str,
    variant: str,
    stays: int,
    tokens: int,
    questions: str,
    json_file: Path | None,
    listed: bool,
) -> None:
    """Prints how many greedy texts of PRUNED are those of FULL; exits with 1 when one is not."""
    counts = Counts()
    try:
        with (
            edgesdk.load(full, variant=variant, strict=True) as whole,
            edgesdk.load(pruned, variant=variant, strict=True) as smaller,
        ):
            ids = read_id_map(smaller.bundle.file(ID_MAP_NAME))
            for text, prompt in prompts(whole, Path(questions)):
                said = compare(whole, smaller, ids, prompt, tokens, counts)
                if listed:
                    click.echo(f"{said}: {text[:60]}")
                if counts.stays >= stays:
                    break
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    document = {"variant": variant, "tokens": tokens, **asdict(counts)}
    for name, value in document.items():
        click.echo(f"{name}: {value}")
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if counts.diverged or counts.stays < stays:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
