"""Chooses how much magnitude to move between neighbouring layers, on calibration text.

For every input that can be scaled, factors s = peak(x)^a / peak(W)^(1-a) are tried for several
strengths a (SmoothQuant, arXiv 2211.10438, equation 4), and s = mean|x|^a beside them (AWQ, arXiv
2306.00978, section 3.2). The one stays under which the layers that read the input give most nearly
what they gave in float, with their weights rounded and their inputs rounded to int8 rows, as XNNPACK
executes them; "none" is a candidate, so no layer gets worse on the sample. Inputs are taken from the
unquantised run: what other layers lose is left out of account.

Layers that read inputs without loss while decoding (`Recipe.exact`) read them as they are here, too: what is
left to be made smaller is their weights' rounding. Where GPTQ does that with one scale per row, its loss is
known without trying (`gptq_scales`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.evaluate import Array
from edgesdk_converters.graph.low_rank_term import INNER, STREAM_INNER
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.all_cores import on_all_cores
from edgesdk_converters.quantise.gptq_scales import scales_for_gptq
from edgesdk_converters.quantise.gram_factor import gram_matrix
from edgesdk_converters.quantise.int8_rows import round_rows_to_int8
from edgesdk_converters.quantise.quantised_weights import check_block
from edgesdk_converters.quantise.recipe import Recipe, Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.scalable_inputs import Scalable, scalable_inputs
from edgesdk_converters.quantise.token_runs import TokenRuns

STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_TOKENS = 512  # rows of the sample on which candidates are compared
_ROWS = 256  # of a weight, that are rounded at once
_GPTQ_ROWS = Scheme(8, None, "gptq")

Report = Callable[[str], None]


def choose_scales(
    program: Program,
    recipe: Recipe,
    sequences: Sequence[NDArray[np.int32]],
    report: Report | None = None,
) -> dict[str, Array]:
    """Factors for `edgesdk_converters.transforms.scale_channels`.

    Args:
        program: before or after `fuse_linears`, with the weights that will be quantised.
        recipe: how the readers of each input are stored; inputs whose readers stay float are left alone.
        sequences: token ids; each is a text of its own.
        report: told what happens.

    Returns:
        By name of a value: (I,) factors. Values that are best left alone are absent.
    """
    say = report or (lambda line: None)
    places = {place.value: place for place in scalable_inputs(program)}
    if not places:
        return {}
    chosen: dict[str, Array] = {}
    runs = TokenRuns(program, sequences)
    for node in program.graph.nodes:
        if isinstance(node.op, Linear) and node.inputs[0] in places:
            place = places.pop(node.inputs[0])
            say(f"scaling {place.value}")
            best = _best(program, recipe, place, runs.values(place.value))
            if best is not None:
                chosen[place.value] = best
        if not places:
            break
        runs.step(node, {n: program.weights.load(n) for n in node.inputs if runs.is_weight(n)})
    return chosen


def _best(program: Program, recipe: Recipe, place: Scalable, inputs: list[Array]) -> Array | None:
    """The factors with the least error, relative to each reader's output; None for all ones."""
    x = np.concatenate(inputs)
    # A term of low rank that stays floating point loses nothing, whatever the factors; and the model stays
    # what it is without streams.
    own = [name for name in place.readers if not name.endswith(STREAM_INNER)]
    quantised = [name for name in own if recipe.scheme(name) or not name.endswith(INNER)]
    schemes = [recipe.scheme(name) for name in quantised]
    if all(recipe.exact(name, 1) for name in quantised) and set(schemes) == {_GPTQ_ROWS}:
        # Channels that must have the same factor have the same largest number among theirs.
        groups = np.unique(place.share(np.arange(place.channels, dtype=np.float32)), return_inverse=True)[1]
        return scales_for_gptq([program.weights.load(name) for name in quantised], gram_matrix([x]), groups)
    rows = x[np.linspace(0, len(x) - 1, min(len(x), _TOKENS)).astype(np.int64)]
    readers = []
    for name in quantised:
        scheme = recipe.scheme(name)
        if scheme is None:
            return None
        check_block(recipe, name, place.channels, scheme)
        weight = program.weights.load(name)
        # GPTQ would take too long for every candidate; what helps rounding helps it.
        quick = replace(scheme, algorithm="round" if scheme.bits == 8 else "clip_search")
        readers.append((weight, quick, rows @ weight.T, recipe.exact(name, 1)))
    peak, mean = np.abs(x).max(axis=0), np.abs(x).mean(axis=0)
    heaviest = np.max([np.abs(weight).max(axis=0) for weight, *_ in readers], axis=0)
    best, least = None, np.inf
    for factor in (None, *_candidates(place, peak, mean, heaviest)):
        s = np.ones(place.channels, np.float32) if factor is None else factor
        divided = rows / s
        rounded = round_rows_to_int8(divided)
        error = 0.0
        for weight, scheme, wanted, exact in readers:
            found = _rounded_product(divided if exact else rounded, weight, s, scheme)
            error += _per_token(found - wanted, wanted)
        if error < least:
            best, least = factor, error
    return best


def _rounded_product(x: Array, weight: Array, factor: Array, scheme: Scheme) -> Array:
    """x (T, I) times a weight (O, I) whose columns are scaled and which is rounded then: (T, O).

    Some rows of the weight at a time, on all cores: nothing as large as it is made.
    """
    found = np.empty((len(x), len(weight)), np.float32)

    def some(start: int) -> None:
        rows = slice(start, start + _ROWS)
        found[:, rows] = x @ round_to_nearest(weight[rows] * factor, scheme).dequantise().T

    on_all_cores(some, range(0, len(weight), _ROWS))
    return found


def _per_token(lost: Array, wanted: Array) -> float:
    """Squared error of each token over its squared output, so that no giant token decides alone."""
    size = np.einsum("to,to->t", wanted, wanted)
    return float((np.einsum("to,to->t", lost, lost) / (size + np.median(size) + 1e-30)).mean())


def _candidates(place: Scalable, peak: Array, mean: Array, heaviest: Array) -> list[Array]:
    found = []
    for strength in STRENGTHS:
        for wish in (
            np.maximum(peak, 1e-5) ** strength / np.maximum(heaviest, 1e-5) ** (1 - strength),
            np.maximum(mean, 1e-5) ** strength,
        ):
            shared = place.share(wish.astype(np.float32))
            shared /= np.exp(np.log(shared).mean())
            found.append(np.clip(shared, 1e-3, 1e3).astype(np.float32))
    return found
