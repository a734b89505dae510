"""Reads and sets how single MatMulNBits nodes of a written model compute: int8 or float32 activations.

The attribute `accuracy_level` is the least accuracy that a kernel may compute with (ONNX Runtime's
contrib operators): 4 lets it quantise activations to int8 in the weights' blocks, 1 asks for float32.
Only attributes change; weights lie in another file and stay as they are. Which nodes deserve it is for
others to say.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.model_file import onnx_package

INT8_ACTIVATIONS = 4
FLOAT_ACTIVATIONS = 1

# ONNX Runtime 1.31 on x86 without VNNI, SmolLM2-135M, decoding: 30 matrices of 4 bits (53 M) take 7 ms
# longer with float activations, the head of 8 bits (28 M) 177 ms, because it is unpacked at every step.
_COST = {4: 1.0, 8: 48.0}

_PRODUCT = "MatMulNBits"
_LEVEL = "accuracy_level"
_INTEGERS = ".integers"


@dataclass(frozen=True)
class Product:
    """A product with a quantised matrix.

    Attributes:
        weight: name of the matrix in the decoder's graph.
        bits: of its integers.
        multiplications: for one token.
    """

    weight: str
    bits: int
    multiplications: int

    @property
    def cost(self) -> float:
        """Of float activations when decoding: 1 for a multiplication with 4 bits."""
        return self.multiplications * _COST.get(self.bits, 1.0)


def quantised_products(path: Path) -> tuple[Product, ...]:
    """The products of a model with quantised matrices, in the order of its nodes.

    Args:
        path: a `model.onnx` of the resident emitter.

    Raises:
        MissingExtra: the package `onnx` is not installed.
    """
    return tuple(
        Product(_weight(node), _attribute(node, "bits"), _attribute(node, "N") * _attribute(node, "K"))
        for node in _nodes(_load(path))
    )


def set_float_activations(path: Path, weights: Collection[str]) -> None:
    """Has the products with these matrices compute in float32, and all others with int8 activations.

    Args:
        path: a `model.onnx` of the resident emitter; it is rewritten, the data beside it are not.
        weights: names of matrices.

    Raises:
        EmitError: there is no product with such a matrix.
        MissingExtra: the package `onnx` is not installed.
    """
    model = _load(path)
    nodes = _nodes(model)
    unknown = set(weights) - {_weight(node) for node in nodes}
    if unknown:
        raise EmitError(f"{path.name} has no quantised product with {', '.join(sorted(unknown))}")
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name == _LEVEL:
                attribute.i = FLOAT_ACTIVATIONS if _weight(node) in weights else INT8_ACTIVATIONS
    path.write_bytes(model.SerializeToString())


def _load(path: Path) -> Any:
    return onnx_package().load(str(path), load_external_data=False)


def _nodes(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type == _PRODUCT]


def _weight(node: Any) -> str:
    return str(node.input[1]).removesuffix(_INTEGERS)


def _attribute(node: Any, name: str) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == name)
