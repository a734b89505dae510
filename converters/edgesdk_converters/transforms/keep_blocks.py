"""Puts a program into the form in which a target holds the blocks that its file brought.

Linear layers are fused where their blocks are alike, minimums are split off, and large channels are
separated for kernels that quantise activations by row. Attention scales stay where they are: folded
into a projection they would change its scales.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk.errors import TransformError
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array
from edgesdk_converters.quantise.block_kernels import BlockKernels, kept_blocks, resolve_blocks
from edgesdk_converters.quantise.peak_activations import outlier_channels
from edgesdk_converters.quantise.recipe import Recipe
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.separate_outliers import separate_outliers
from edgesdk_converters.transforms.split_minimums import split_minimums


def needs_peaks(recipe: Recipe, kernels: BlockKernels) -> bool:
    """Whether `keep_blocks` wants to know how large activations get."""
    return kernels.row_activations and recipe.outliers > 0


def keep_blocks(
    program: Program, recipe: Recipe, kernels: BlockKernels, peaks: Mapping[str, Array] | None = None
) -> tuple[Program, Recipe]:
    """Prepares a program for a recipe that keeps blocks; logits are equal in exact arithmetic.

    Args:
        program: the decoder as its checkpoint has it.
        recipe: one with `keep_blocks`.
        kernels: what the target's kernels take.
        peaks: from `peak_activations` of this program, where `needs_peaks`.

    Returns:
        The program, and the recipe with a rule for each weight whose blocks are kept.

    Raises:
        TransformError: peaks are needed and missing.
    """
    program = fuse_linears(program, keep_blocks=True)
    kept = tuple(name for name in kept_blocks(program, kernels) if not recipe.requantises(name))
    program = split_minimums(
        program, kept, positive_scales=kernels.positive_scales, half_scales=kernels.half_scales
    )
    if needs_peaks(recipe, kernels):
        if peaks is None:
            raise TransformError(f"recipe {recipe.name} separates large channels; measure activations first")
        program = separate_outliers(program, outlier_channels(program, peaks, recipe.outliers))
    return program, resolve_blocks(recipe, program, kept)
