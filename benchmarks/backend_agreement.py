"""Greedy texts of every backend on one bundle, against each other and against the evaluator.

    python benchmarks/backend_agreement.py BUNDLE SOURCE [--recipe f32] [--prompts FILE] [--tokens 64]

SOURCE is what BUNDLE was converted from. The reference is the evaluator on the weights that the
recipe stores (float32 arithmetic, no quantised activations). A text counts as identical when every
token is the same; else its first difference counts as a near-tie when the reference's logits of the
two tokens differ by less than 0.001, and is listed with that gap otherwise.
"""

import itertools
import statistics
from pathlib import Path

import click
import numpy as np

import edgesdk
from edgesdk.evaluation.greedy import NEAR_TIE
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe

TEXT = "Water boils at one hundred degrees Celsius at sea level, but at lower temperatures in the hills. " * 4


def stored_program(source: str, recipe_name: str) -> Program:
    """The evaluator's program on the weights that a recipe stores."""
    checkpoint, recipe = open_checkpoint(source), find_recipe(recipe_name)
    program = prepare(read_program(checkpoint), recipe)
    weights = QuantisedWeights(program.weights, recipe)
    return Program(program.spec, program.graph, ResidentWeights(weights))


def compare(prompts: list[list[int]], texts: dict[str, list[list[int]]], program: Program) -> None:
    """Prints how each pair of backends agrees."""
    for one, other in itertools.combinations(texts, 2):
        identical, near, gaps, places = 0, 0, [], []
        for prompt, a, b in zip(prompts, texts[one], texts[other], strict=True):
            pairs = itertools.zip_longest(a, b)
            at = next((i for i, (x, y) in enumerate(pairs) if x != y), None)
            if at is None:
                identical += 1
                continue
            ids = np.array(prompt + a[:at], np.int32)
            row = next(sequence_logits(program, [ids]))[-1]
            gap = float(abs(row[a[at]] - row[b[at]])) if at < min(len(a), len(b)) else float("nan")
            near += gap < NEAR_TIE
            gaps.append(gap)
            places.append(at)
        line = f"{one} / {other}: {identical} of {len(prompts)} identical, {near} differ first at a near-tie"
        if gaps:
            line += f"; first difference at token {statistics.median(places):.0f} (median), "
            line += f"gap {statistics.median(gaps):.3f} (median), {max(gaps):.3f} (largest)"
        click.echo(line)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.argument("source")
@click.option("--recipe", default="f32", show_default=True)
@click.option("--prompts", type=click.Path(exists=True), default=str(Path(__file__).parent / "prompts.txt"))
@click.option("--tokens", default=64, show_default=True)
@click.option("--backends", default="litert,onnxruntime,onnxruntime_genai", show_default=True)
def main(bundle: str, source: str, recipe: str, prompts: str, tokens: int, backends: str) -> None:
    """Prints agreement of texts and largest differences of logits."""
    program = stored_program(source, recipe)
    texts, scores, ids = {}, {}, []
    for backend in backends.split(","):
        with edgesdk.load(bundle, backend=backend, recipe=recipe, strict=True) as model:
            ids = [model.render_prompt(line) for line in Path(prompts).read_text().splitlines()]
            text = np.array(model.tokenize(TEXT), np.int32)
            scores[backend] = model.score(text)
            texts[backend] = [
                list(
                    model.generate(prompt, max_tokens=tokens, temperature=0.0, repetition_penalty=1.0).tokens
                )
                for prompt in ids
            ]
    expected = next(sequence_logits(program, [text]))
    for backend, found in scores.items():
        largest = np.abs(found - expected).max()
        same = (found.argmax(-1) == expected.argmax(-1)).mean()
        click.echo(
            f"{backend} / evaluator: logits differ by at most {largest:.4f} of {np.abs(expected).max():.1f}, "
            f"top-1 agreement {same:.3f} over {len(text)} positions"
        )
    compare(ids, texts, program)


if __name__ == "__main__":
    main()
