"""The transforms that a model goes through before its weights are quantised, in the one order that works.

    fold_norms -> rotate_residual -> rotate_values -> fold_attention_scale -> fuse_linears -> fuse_low_rank

The first two belong together and only to recipes that rotate: norm weights must be gone before the
stream can turn, and folded without a rotation they spread the columns of what is quantised next
(docs/decisions/0007). Fusing comes last because it joins weights that the others change one by one. What
needs calibration text comes after this (`edgesdk_converters.quantise_program`), and so does everything for a
recipe that keeps a file's blocks, whose integers and scales none of these may touch.
"""

from __future__ import annotations

from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.recipe import Recipe
from edgesdk_converters.transforms.fold_attention_scale import fold_attention_scale
from edgesdk_converters.transforms.fold_norms import fold_norms
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.fuse_low_rank import fuse_low_rank
from edgesdk_converters.transforms.rotate_residual import can_rotate, rotate_residual
from edgesdk_converters.transforms.rotate_values import rotate_values


def prepare(program: Program, recipe: Recipe) -> Program:
    """Returns the program in the form that emitters take; logits are equal in exact arithmetic."""
    if recipe.keep_blocks:
        return program
    if recipe.rotate and can_rotate(program):
        program = rotate_residual(fold_norms(program))
    if recipe.rotate_values:
        program = rotate_values(program)
    return fuse_low_rank(fuse_linears(fold_attention_scale(program)))
