"""Dense modules of sentence-transformers behind pooling, as the one matrix that they are together.

Without activation and bias two layers are a product of two matrices, and a mean of what a matrix makes is
what it makes of the mean, so the matrix may stand before pooling (docs/decisions/0051). It knows no
architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.require_finite import require_finite
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk_converters.checkpoints.text_file import Json, read_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_MATRIX, _BIAS = "linear.weight", "linear.bias"
_IDENTITY = "torch.nn.modules.linear.Identity"


def read_dense_modules(folders: Sequence[Path], config: Json) -> NDArray[np.float32]:
    """Multiplies the matrices of dense modules, in float64.

    Args:
        folders: of the modules, in their order; at least one.
        config: of the transformer, whose states the first one reads.

    Returns:
        (W, E) float32, W being the width of the last one.

    Raises:
        CheckpointError: a file is missing or damaged, a module has an activation or a bias, or does not fit
            what stands before it.
    """
    width = config.get("hidden_size")
    whole: NDArray[np.float64] | None = None
    for folder in folders:
        matrix = _matrix(folder, width)
        whole = matrix if whole is None else matrix @ whole
        width = len(matrix)
    if whole is None:
        raise ValueError("there are no dense modules")
    with np.errstate(over="ignore"):
        product = whole.astype(np.float32)
    require_finite(product, WEIGHTS, "the product of all dense modules")
    return product


def _matrix(folder: Path, width: object) -> NDArray[np.float64]:
    settings = read_json(folder / CONFIG)
    activation = settings.get("activation_function")
    if activation != _IDENTITY:
        raise CheckpointError(
            f"{folder / CONFIG} has the activation_function {quoted(activation)}, expected {_IDENTITY}: "
            "dense modules are known as matrices alone"
        )
    shape = (settings.get("out_features"), settings.get("in_features"))
    if shape[1] != width or not all(isinstance(n, int) and 1 <= n <= LARGEST_SIZE for n in shape):
        raise CheckpointError(
            f"{folder / CONFIG} has {quoted(shape[1])} in_features and {quoted(shape[0])} out_features, and "
            f"reads {quoted(width)} numbers"
        )
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}, which its module reads; fetch it")
    tensors = SafetensorsTensors([folder / WEIGHTS])
    names = sorted(tensors)
    if settings.get("bias", True) is not False or _BIAS in names:
        raise CheckpointError(f"{folder / CONFIG} has a bias, expected a dense module without")
    if names != [_MATRIX] or tensors.shape(_MATRIX) != shape:
        found = ", ".join(f"{name[:60]} {tensors.shape(name)}" for name in names[:4])
        raise CheckpointError(f"{folder / WEIGHTS} holds {found or 'nothing'}, expected {_MATRIX} {shape}")
    return tensors.load(_MATRIX).astype(np.float64)
