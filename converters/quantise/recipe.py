"""Recipes: which weight is stored how. First matching rule wins.

Grammar of names:

    f32 | f16                 weights stay floating point
    w8                        int8, one scale per output row, everywhere
    w4b<block>                int4 in blocks of <block> columns (32 or 64); embedding and head int8
    w4c                       int4, one scale per output row; embedding and head int8

The gate of a recipe is what a converted model must reach against the float32 evaluator, measured on
the built-in passages; it catches broken conversions, and is not a promise of quality.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from edgesdk.errors import UnsupportedOption

FloatType = Literal["float32", "float16"]
Algorithm = Literal["round", "clip_search"]


@dataclass(frozen=True)
class Scheme:
    """How one weight is quantised.

    Attributes:
        bits: 8 or 4.
        block: columns per scale; None for one scale per row.
        algorithm: `round` scales by the largest magnitude; `clip_search` tries smaller scales and
            keeps the one with the least squared error.
    """

    bits: int
    block: int | None
    algorithm: Algorithm


@dataclass(frozen=True)
class Rule:
    """Weights whose name matches `pattern` (shell style) get `scheme`; None keeps them floating point."""

    pattern: str
    scheme: Scheme | None


@dataclass(frozen=True)
class Recipe:
    """A named set of rules.

    Attributes:
        name: in the grammar above.
        rules: tried in order; a matrix that none matches stays `float_type`.
        float_type: storage of everything that is not quantised.
        rotate: turn the residual stream first; pays for int8 activations, and costs where a source
            already lies on a 4-bit grid.
        gate_perplexity_ratio: highest accepted ratio to the reference.
        gate_top1_agreement: lowest accepted share of equal most-likely tokens.
    """

    name: str
    rules: tuple[Rule, ...]
    float_type: FloatType
    rotate: bool
    gate_perplexity_ratio: float
    gate_top1_agreement: float

    def scheme(self, weight: str) -> Scheme | None:
        """The scheme of the first rule that matches a weight's name."""
        return next((rule.scheme for rule in self.rules if fnmatchcase(weight, rule.pattern)), None)


def find_recipe(name: str) -> Recipe:
    """Reads a recipe's name.

    Raises:
        UnsupportedOption: it is not in the grammar.
    """
    if name == "f32":
        return Recipe(name, (), "float32", False, 1.001, 0.999)
    if name == "f16":
        return Recipe(name, (), "float16", False, 1.005, 0.99)
    int8 = Scheme(8, None, "round")
    if name == "w8":
        # One large diagonal leaves the rest of this matrix no steps: in int8 it costs 0.07 top-1.
        exact = Rule("final_rotation", None)
        return Recipe(name, (exact, Rule("*", int8)), "float32", True, 1.05, 0.85)
    match = re.fullmatch(r"w4(?:b(32|64)|c)", name)
    if match is None:
        raise UnsupportedOption(f"recipe {name!r} is unknown; expected f32, f16, w8, w4b32, w4b64 or w4c")
    block = int(match[1]) if match[1] else None
    int4 = Scheme(4, block, "clip_search")
    rules = (Rule("embed", int8), Rule("head", int8), Rule("*", int4))
    return Recipe(name, rules, "float32", False, 1.8 if block else 4.0, 0.5 if block else 0.3)
