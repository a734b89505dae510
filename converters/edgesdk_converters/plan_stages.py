"""Which stages a conversion will have, and how much of its time each may take."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk_converters.convert_options import ConvertOptions
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.progress import Stage
from edgesdk_converters.quantise.recipe import Recipe
from edgesdk_converters.quantise_program import depends_on_target
from edgesdk_converters.targets import Target

# Seconds on SmolLM2-135M and two cores; only their proportions count.
_READING_S, _RESHAPING_S, _ROUNDING_S, _CALIBRATING_S, _SEARCHING_S = 1.0, 2.0, 0.2, 70.0, 60.0
_FIRST_WRITING_S, _WRITING_S, _SCORING_S, _PROVING_S, _COMPARING_S = 4.5, 0.7, 2.5, 7.5, 2.1
_ANSWERING_S = 6.5  # by the reference, when the first variant is proven

_SCALING = 0.35
"""Choosing the scales of one input, beside calibrating one matrix."""


def quantising_work(program: Program, recipe: Recipe) -> float:
    """The weights of all lines that quantising says, one for each product or pair of products."""
    products = sum(isinstance(node.op, Linear) for node in program.graph.nodes)
    return products * recipe.calibrates + products / 2 * recipe.scale_channels * _SCALING


def weight_of_line(what: str) -> float:
    """How long what a line of quantising announces takes, beside calibrating one matrix."""
    return _SCALING if what.startswith("scaling ") else 1.0


def plan_stages(
    options: ConvertOptions, targets: Sequence[Target], recipes: Sequence[Recipe]
) -> list[tuple[Stage, float]]:
    """The stages to come, with their weights."""
    plan: list[tuple[Stage, float]] = [("reading", _READING_S)]
    if options.reshaping.changes:
        plan.append(("reshaping", _SEARCHING_S if options.reshaping.needs_text else _RESHAPING_S))
    for recipe in recipes:
        quantising = _CALIBRATING_S if recipe.needs_data else _ROUNDING_S
        if options.budget is not None:
            quantising += _SEARCHING_S
        for index, target in enumerate(targets):
            alone = index == 0 or depends_on_target(recipe)
            writing = _FIRST_WRITING_S if alone else _WRITING_S
            if options.onnx_accuracy is not None and target.raises_accuracy:
                writing += _SEARCHING_S
            if alone:
                plan.append(("quantising", quantising))
            plan.append(("writing", writing))
    if options.prove:
        stacks, variants = 1 + len(options.stacks), len(recipes) * len(targets)
        for _ in range(stacks):
            plan.append(("scoring", _SCORING_S))
            plan.append(("proving", _PROVING_S + _ANSWERING_S))
            plan.extend(("proving", _PROVING_S) for _ in range(variants - 1))
            plan.append(("comparing", _COMPARING_S * variants))
    return plan
