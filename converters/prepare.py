"""The transforms that every emitted model goes through, in the one order that works.

    fold_norms -> fold_attention_scale -> rotate_residual -> fuse_linears

Norm weights must be gone before the stream rotates, and fusing comes last because it joins weights
that the others change one by one.
"""

from __future__ import annotations

from converters.graph.program import Program
from converters.quantise.recipe import Recipe
from converters.transforms.fold_attention_scale import fold_attention_scale
from converters.transforms.fold_norms import fold_norms
from converters.transforms.fuse_linears import fuse_linears
from converters.transforms.rotate_residual import can_rotate, rotate_residual


def prepare(program: Program, recipe: Recipe) -> Program:
    """Returns the program in the form that emitters take; logits are equal in exact arithmetic."""
    program = fold_attention_scale(fold_norms(program))
    if recipe.rotate and can_rotate(program):
        program = rotate_residual(program)
    return fuse_linears(program)
