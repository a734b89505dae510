"""Which of a file's own blocks a target can multiply with, and which weights are kept because of it.

`resolve_blocks` turns a recipe that keeps blocks into one that says so weight by weight; what cannot be
kept falls to the recipe's own rules. It does not know files or emitters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from edgesdk_converters.checkpoints.stored_blocks import BlockType, block_type
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme


@dataclass(frozen=True)
class BlockKernels:
    """What a target's kernels take.

    Attributes:
        products: (bits, block) of matrices in products.
        tables: (bits, block) of tables whose rows are looked up.
        positive_scales: scales must be above zero; others cost a minimum.
        half_scales: scales must be float16 numbers; others are rounded to them.
        row_activations: kernels quantise activations with one scale per row, so that single large
            channels spoil the others and are worth separating.
    """

    products: frozenset[tuple[int, int]]
    tables: frozenset[tuple[int, int]]
    positive_scales: bool
    row_activations: bool
    half_scales: bool = False

    def needs_minimums(self, kind: BlockType) -> bool:
        """Whether blocks of a kind come with minimums here."""
        return kind.needs_minimums(self.positive_scales)


_GROUPS = frozenset((4, block) for block in (32, 64, 128))
"""GGUF's 4-bit blocks and the groups of AWQ, GPTQ and MLX."""
_EIGHTS = frozenset({(8, 32), (8, 16)})
"""GGUF's Q8_0, Q5_K, IQ4_NL and MXFP4 in blocks of 32, its Q6_K in blocks of 16."""

# XNNPACK (4 bits in blocks, LiteRT 2.3) refuses scales that are not positive, and has no 8-bit blocks.
LITERT_BLOCKS = BlockKernels(_GROUPS, frozenset(), True, True, half_scales=True)
# MatMulNBits and GatherBlockQuantized; MatMulNBits quantises activations in the same blocks.
ONNX_BLOCKS = BlockKernels(_GROUPS | _EIGHTS, _GROUPS | _EIGHTS, False, False)
# DequantizeLinear; a table of blocks would be unpacked whole for every step.
ONNX_STEP_BLOCKS = BlockKernels(_GROUPS | _EIGHTS, frozenset(), False, False)

# constexpr_blockwise_shift_scale takes any block; a table of blocks would be unpacked whole for every step.
COREML_BLOCKS = BlockKernels(_GROUPS | {(8, 32)}, frozenset(), False, False, half_scales=True)


def kept_blocks(program: Program, kernels: BlockKernels) -> tuple[str, ...]:
    """Weights whose blocks a target can keep, in the order of the graph."""
    return tuple(value.name for value in program.graph.weights if _keeps(program, kernels, value.name))


def resolve_blocks(recipe: Recipe, program: Program, kept: Iterable[str]) -> Recipe:
    """The recipe with a rule for each weight whose blocks are kept, before its own rules.

    Args:
        recipe: any.
        program: after blocks lost their minimums.
        kept: from `kept_blocks`.
    """
    rules = []
    for name in kept:
        kind = block_type(program.weights, name)
        if kind is not None:
            rules.append(Rule(name, Scheme(kind.bits, kind.block, "stored")))
    return dataclasses.replace(recipe, rules=(*rules, *recipe.rules))


def _keeps(program: Program, kernels: BlockKernels, name: str) -> bool:
    kind = block_type(program.weights, name)
    if kind is None:
        return False
    size = (kind.bits, kind.block)
    for user in program.graph.users(name):
        if isinstance(user.op, Linear):
            if size not in kernels.products:
                return False
        elif size not in kernels.tables or kernels.needs_minimums(kind):
            return False
    return True
