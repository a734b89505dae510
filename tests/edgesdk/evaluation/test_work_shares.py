from dataclasses import replace

import pytest

from edgesdk.evaluation.step_profile import OperationTime
from edgesdk.evaluation.work_shares import by_work
from tests.edgesdk.evaluation.test_step_profile import PROFILE


def test_cells_are_attention_s_and_a_looked_up_table_is_no_product():
    profile = replace(
        PROFILE,
        operations=(
            *PROFILE.operations,
            OperationTime("layers.0.attended.scores", "Batch Matrix Multiply", 0, 8.0, 0),
            OperationTime("k_new.1.half", "Convert", 1, 2.0, 0),
        ),
        unattributed_us=25.0,
        cell_bytes=4000,
    )
    attention, products, rest = by_work(profile)
    assert (attention.name, attention.count, attention.duration_us) == ("attention", 2, 10.0)
    assert (attention.read_bytes, attention.least_us) == (4000, pytest.approx(4.0))
    assert attention.of_limit == pytest.approx(0.4)
    assert (products.name, products.count, products.duration_us, products.read_bytes) == (
        "products",
        3,
        60.0,
        12,
    )
    assert (rest.name, rest.count, rest.duration_us, rest.of_limit) == ("rest", 1, 30.0, None)
    assert attention.share + products.share + rest.share == pytest.approx(1.0)


def test_no_cells_have_no_limit():
    attention, *_ = by_work(PROFILE)
    assert (attention.read_bytes, attention.of_limit) == (0, None)
