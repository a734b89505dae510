"""Packed blocks, unpacked again by hand."""

import numpy as np
import pytest

from edgesdk_converters.emit.onnx.matrices import block_scales, kernel_block, pack_blocks
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest


@pytest.mark.parametrize(
    ("bits", "block", "columns"), [(8, None, 64), (4, 32, 96), (4, None, 40), (8, None, 48)]
)
def test_blocks_unpack_to_the_weight(bits, block, columns):
    weight = np.random.default_rng(1).standard_normal((6, columns)).astype(np.float32)
    scheme = Scheme(bits, block, "round")
    tensor = round_to_nearest(weight, scheme)
    size = kernel_block(scheme, columns)
    packed, scales = pack_blocks(tensor, size), block_scales(tensor, size)
    values = packed.astype(np.int16)
    if bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], -1)
    restored = (values - (1 << (bits - 1))) * scales[:, :, None]
    restored = restored.reshape(6, -1)
    np.testing.assert_allclose(restored[:, :columns], tensor.dequantise(), rtol=1e-6)
    assert not restored[:, columns:].any()  # padding is the zero point


def test_extremes_survive():
    from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor

    values = np.array([[-127, 127, 0, 1] * 8], np.int8)
    packed = pack_blocks(QuantisedTensor(values, np.ones((1, 1), np.float32), 8, None), 32)
    assert packed.reshape(-1)[:4].tolist() == [1, 255, 128, 129]
    values = np.array([[-8, 7] * 16], np.int8)
    packed = pack_blocks(QuantisedTensor(values, np.ones((1, 1), np.float32), 4, 32), 32)
    assert set(packed.reshape(-1).tolist()) == {0xF0}


@pytest.mark.parametrize(("columns", "block"), [(64, 32), (48, 16), (40, 32), (576, 32)])
def test_block_of_a_scale_per_row(columns, block):
    assert kernel_block(Scheme(8, None, "round"), columns) == block
