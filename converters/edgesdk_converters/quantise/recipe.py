"""Recipes: which weight is stored how. First matching rule wins.

Grammar of names:

    f32 | f16                 weights stay floating point
    w8                        int8, one scale per output row, everywhere, for inputs that are int8 as well
    source                    the very integers and scales of a GGUF file wherever the target's kernels
                              take them; int8, one scale per output row, elsewhere
    source-h4                 the same with embedding and head in int4 blocks of 32, calibrated
    w4b<block>                int4 in blocks of <block> columns (32 or 64); embedding and head int8
    w4c                       int4, one scale per output row; embedding and head int8
    p4                        palettes: 16 numbers for every 16 rows; embedding and head int8; Core ML only
    <any of w8, w4, p4>-round the same without calibration
    <any with int8 or int4>-exact
                              the same, its products read activations without loss; LiteRT only
    <path>.json               a recipe of one's own: the fields of `Recipe` as an object

Parts of low-rank adapters (`*.lora_a`, `*.lora_b`) and what streams begin with (`streams.*`) stay floating
point under every built-in recipe, and under every rule whose pattern does not name them. The low-rank parts
of streams (`*.stream_a`, `*.stream_b`) are int8, one scale per output row, rounded, in w8 and w4 recipes;
others need a rule that names them.

The gate of a recipe is what a converted model must reach against the float32 evaluator, measured on
the built-in passages; it catches broken conversions, and is not a promise of quality.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict

from edgesdk.bundle.records import from_json
from edgesdk.errors import BundleError, UnsupportedOption
from edgesdk_converters.graph.low_rank_term import INNER, WRITTEN
from edgesdk_converters.quantise.activation_rule import ActivationRule
from edgesdk_converters.quantise.weight_pattern import check_pattern, matches

FloatType = Literal["float32", "float16"]
Algorithm = Literal["round", "clip_search", "gptq", "stored", "palette", "palette_gptq"]

_OWN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_EXACT = "-exact"
_STREAMS = "streams."
_LIMIT_BYTES = 1 << 20
_KNOWN = (
    "f32, f16, w8, source, source-h4, w4b32, w4b64, w4c, p4, any of the w and p ones with -round, "
    "any with w or source with -exact, or a .json file"
)


@dataclass(frozen=True)
class Scheme:
    """How one weight is quantised.

    Attributes:
        bits: 8 or 4.
        block: columns per scale, 32, 64 or 128; None for one scale per row.
        algorithm: `round` scales by the largest magnitude; `clip_search` tries smaller scales and
            keeps the one with the least squared error; `gptq` needs calibration data and keeps the
            output of the layer instead; `stored` takes what the source's file holds; `palette` and,
            with calibration data, `palette_gptq` store 16 numbers for some rows, and which of them each
            weight is.
        rows: rows that share a palette, 8, 16 or 32; None for integers.
    """

    bits: int
    block: int | None
    algorithm: Algorithm
    rows: int | None = None

    def __post_init__(self) -> None:
        """Refuses what no target can store."""
        if self.palette and (self.bits != 4 or self.block is not None or self.rows not in (8, 16, 32)):
            raise ValueError(
                f"a palette has {self.bits} bits, block {self.block} and rows {self.rows}; expected 4, null, "
                "and 8, 16 or 32"
            )
        if self.rows is not None and not self.palette:
            raise ValueError(f"rows is {self.rows} with algorithm {self.algorithm}; it is for palettes only")
        if self.bits not in (4, 8):
            raise ValueError(f"bits is {self.bits}, expected 4 or 8")
        if self.block not in (None, 32, 64, *((16, 128) if self.algorithm == "stored" else ())) or (
            self.bits == 8 and self.block is not None and self.algorithm != "stored"
        ):
            raise ValueError(
                f"block is {self.block} with {self.bits} bits; expected null, or 32 or 64 with 4 bits"
            )

    @property
    def palette(self) -> bool:
        """Whether it stores indices into palettes."""
        return self.algorithm in ("palette", "palette_gptq")

    @property
    def needs_data(self) -> bool:
        """Whether numbers are chosen by what layers compute."""
        return self.algorithm in ("gptq", "palette_gptq")


@dataclass(frozen=True)
class Rule:
    """Weights whose name matches a pattern get a scheme.

    Attributes:
        pattern: of the weight's name, in the grammar of `weight_pattern`.
        scheme: None keeps them floating point.
        requantise: the scheme holds also where the recipe keeps a file's blocks and these are such.
    """

    pattern: str
    scheme: Scheme | None
    requantise: bool = False

    def __post_init__(self) -> None:
        """Refuses a pattern that is none."""
        check_pattern(self.pattern)

    def matches(self, weight: str) -> bool:
        """Whether the rule speaks of a weight."""
        if weight.endswith((INNER, WRITTEN)) and "lora_" not in self.pattern:
            return False
        if weight.startswith(_STREAMS) and _STREAMS not in self.pattern:
            return False
        return matches(self.pattern, weight)


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
        gate_cosine: lowest accepted cosine between a text's vectors, of models that give states only.
        gate_order: lowest accepted agreement on which of two texts is nearer to a third, of the same.
        rotate_values: turn values within each head, and the output projection back.
        scale_channels: move magnitude between neighbouring layers, as calibration data advise.
        keep_blocks: weights keep the integers and scales of a GGUF file wherever a target's kernels
            take them, unless the rule that matches says `requantise`.
        outliers: how many of the largest channels of normed inputs stay floating point, for targets
            whose kernels quantise activations by row.
        activations: rules for products with int8 activations, tried in order; one that none matches is
            fast.
    """

    name: str
    rules: tuple[Rule, ...]
    float_type: FloatType = "float32"
    rotate: bool = False
    gate_perplexity_ratio: float = 1.8
    gate_top1_agreement: float = 0.5
    gate_cosine: float = 0.8
    gate_order: float = 0.8
    rotate_values: bool = False
    scale_channels: bool = False
    keep_blocks: bool = False
    outliers: int = 0
    activations: tuple[ActivationRule, ...] = ()

    def __post_init__(self) -> None:
        """Refuses gates that nothing or everything passes."""
        if not 1 <= self.gate_perplexity_ratio <= 1e6:
            raise ValueError(f"gate_perplexity_ratio is {self.gate_perplexity_ratio}, expected 1 to 1000000")
        if not 0 <= self.gate_top1_agreement <= 1:
            raise ValueError(f"gate_top1_agreement is {self.gate_top1_agreement}, expected 0 to 1")
        for name in ("gate_cosine", "gate_order"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")
        if not 0 <= self.outliers <= 64:
            raise ValueError(f"outliers is {self.outliers}, expected 0 to 64")

    @property
    def needs_data(self) -> bool:
        """Whether converting with it runs calibration text."""
        return self.calibrates or self.scale_channels or self.outliers > 0

    @property
    def calibrates(self) -> bool:
        """Whether an algorithm chooses integers by what layers compute."""
        return any(rule.scheme is not None and rule.scheme.needs_data for rule in self.rules)

    @property
    def calibrates_int4(self) -> bool:
        """Whether some of those integers have 4 bits."""
        schemes = [rule.scheme for rule in self.rules if rule.scheme is not None]
        return any(scheme.needs_data and scheme.bits == 4 for scheme in schemes)

    @property
    def stores_integers(self) -> bool:
        """Whether any weight may be stored as integers, its own or by a rule."""
        return self.keep_blocks or any(rule.scheme is not None for rule in self.rules)

    @property
    def palettes(self) -> bool:
        """Whether any weight is stored as indices into palettes."""
        return any(rule.scheme is not None and rule.scheme.palette for rule in self.rules)

    @property
    def has_exact_products(self) -> bool:
        """Whether some product reads its input without loss, in steps of some size."""
        return any("exact" in (rule.decode, rule.few, rule.prompt) for rule in self.activations)

    def exact(self, weight: str, tokens: int) -> bool:
        """Whether the product with a weight reads its input without loss, in steps of so many tokens."""
        rule = next((rule for rule in self.activations if rule.matches(weight)), None)
        return rule is not None and rule.at(tokens) == "exact"

    def scheme(self, weight: str) -> Scheme | None:
        """The scheme of the first rule that matches a weight's name."""
        rule = self._rule(weight)
        return None if rule is None else rule.scheme

    def requantises(self, weight: str) -> bool:
        """Whether a weight's own blocks are given up for its scheme."""
        rule = self._rule(weight)
        return rule is not None and rule.requantise

    def _rule(self, weight: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.matches(weight)), None)


class _VectorGates(TypedDict):
    gate_cosine: float
    gate_order: float


_INT8_VECTORS: _VectorGates = {"gate_cosine": 0.97, "gate_order": 0.94}


def find_recipe(name: str) -> Recipe:
    """Reads a recipe's name, or the file that it names.

    Raises:
        UnsupportedOption: it is not in the grammar, or the file is not a recipe.
    """
    if name.endswith(".json"):
        return read_recipe(Path(name))
    if name.endswith(_EXACT):
        recipe = find_recipe(name.removesuffix(_EXACT))
        if not recipe.stores_integers or recipe.palettes or recipe.activations:
            raise UnsupportedOption(
                f"recipe {name!r} has no products that round activations; leave out {_EXACT}"
            )
        return replace(recipe, name=name, activations=(ActivationRule("*"),))
    if name == "f32":
        return Recipe(name, (), "float32", False, 1.001, 0.999, gate_cosine=0.9999, gate_order=0.995)
    if name == "f16":
        return Recipe(name, (), "float16", False, 1.005, 0.99, gate_cosine=0.999, gate_order=0.99)
    int8 = Scheme(8, None, "round")
    # Nothing in calibration text is a stream's row, so there is nothing to choose their integers by.
    parts = Rule("*.stream_?", int8)
    if name in ("w8", "w8-round"):
        # One large diagonal leaves the rest of such a matrix no steps: in int8 it costs 0.07 top-1.
        exact = Rule("*.rotation", None)
        rounds = name.endswith("-round")
        rest = int8 if rounds else Scheme(8, None, "gptq")
        every = (exact, parts, Rule("*", rest))
        return Recipe(name, every, "float32", True, 1.05, 0.85, scale_channels=not rounds, **_INT8_VECTORS)
    if name in ("source", "source-h4"):
        # What only exists because blocks are kept or channels separated is small and stays exact.
        small = tuple(Rule(pattern, None) for pattern in ("*.minimums", "*.side", "outliers.*"))
        if name == "source":
            rules = (*small, Rule("*", int8))
            return Recipe(
                name, rules, "float16", False, 1.05, 0.85, keep_blocks=True, outliers=8, **_INT8_VECTORS
            )
        # A quarter of a small model's bytes are its table: the cheapest to give up (docs/quantisation.md).
        table = Scheme(4, 32, "gptq")
        rules = (*small, *(Rule(n, table, requantise=True) for n in ("embed", "head")), Rule("*", int8))
        return Recipe(name, rules, "float16", False, 1.2, 0.7, keep_blocks=True, outliers=8)
    if name in ("p4", "p4-round"):
        # 16 rows: with more palettes the Neural Engine slows down, with fewer they fit worse (Apple's guide).
        palette = Scheme(4, None, "palette" if name.endswith("-round") else "palette_gptq", 16)
        return Recipe(name, (Rule("embed", int8), Rule("head", int8), Rule("*", palette)), "float32", False)
    match = re.fullmatch(r"w4(?:b(32|64)|c)(-round)?", name)
    if match is None:
        raise UnsupportedOption(f"recipe {name!r} is unknown; expected {_KNOWN}")
    block = int(match[1]) if match[1] else None
    int4 = Scheme(4, block, "clip_search" if match[2] else "gptq")
    rules = (parts, Rule("embed", int8), Rule("head", int8), Rule("*", int4))
    if block:
        return Recipe(name, rules, "float32", False, 1.8, 0.5)
    return Recipe(name, rules, "float32", False, 4.0, 0.3, gate_cosine=0.65, gate_order=0.7)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe file.

    Raises:
        UnsupportedOption: the file cannot be read or is not a recipe; the message names the key.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES + 1)
        if len(text) > _LIMIT_BYTES:
            raise UnsupportedOption(f"recipe file {path} is longer than {_LIMIT_BYTES} bytes")
        recipe = from_json(Recipe, json.loads(text.decode("utf-8")), "recipe")
    except OSError as error:
        raise UnsupportedOption(f"recipe file {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UnsupportedOption(f"recipe file {path} is not JSON: {error}") from error
    except BundleError as error:
        raise UnsupportedOption(f"recipe file {path}: {error}") from error
    if not _OWN_NAME.fullmatch(recipe.name) or _is_built_in(recipe.name):
        raise UnsupportedOption(
            f"recipe file {path} names its recipe {recipe.name!r}; expected small letters, digits, - and _, "
            "at most 32, and not the name of a built-in one"
        )
    return recipe


def _is_built_in(name: str) -> bool:
    try:
        find_recipe(name)
    except UnsupportedOption:
        return False
    return True
