"""Which weights keep a file's blocks, and which give them up."""

import pytest

from edgesdk_converters.graph.ops import BlockSums
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS, ONNX_BLOCKS
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme
from edgesdk_converters.transforms.keep_blocks import keep_blocks

GPTQ, INT8 = Scheme(4, 32, "gptq"), Scheme(8, None, "round")
RULES = (
    Rule("embed", GPTQ, requantise=True),
    Rule("layers.{1-1}.down", GPTQ, requantise=True),
    Rule("layers.0.o", GPTQ),
    Rule("*", INT8),
)


@pytest.mark.parametrize("kernels", [LITERT_BLOCKS, ONNX_BLOCKS])
def test_rules_that_say_so_hold_in_place_of_blocks(make_program, in_blocks, kernels):
    program = in_blocks(make_program("plain"), lambda name: "Q8_0" if name == "embed" else "Q4_1")
    kept, recipe = keep_blocks(program, Recipe("own", RULES, keep_blocks=True), kernels)
    assert recipe.scheme("embed") == recipe.scheme("layers.1.down") == GPTQ
    # A rule that does not say so yields to the blocks, as all rules did before.
    assert recipe.scheme("layers.0.o") == recipe.scheme("layers.0.down") == Scheme(4, 32, "stored")
    names = {value.name for value in kept.graph.weights}
    assert "layers.0.down.minimums" in names
    assert "layers.1.down.minimums" not in names
    read = {node.inputs[0] for node in kept.graph.nodes if isinstance(node.op, BlockSums)}
    down = next(n for n in kept.graph.nodes if "layers.1.down" in n.inputs)
    assert down.inputs[0] not in read
