"""Parts on all cores: in order, with products on one core each, and errors that come through."""

import threading

import pytest
from threadpoolctl import threadpool_info

from edgesdk_converters.quantise.all_cores import on_all_cores


def threads_of_products():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_what_is_found_comes_in_the_order_of_parts():
    assert on_all_cores(lambda n: n * n, range(20)) == [n * n for n in range(20)]
    assert on_all_cores(lambda n: n, []) == []


def test_products_take_one_core_each_meanwhile_and_all_afterwards():
    before = threads_of_products()
    assert on_all_cores(lambda _: threads_of_products(), range(4)) == [{1}] * 4
    assert on_all_cores(lambda _: threads_of_products(), [0]) == [{1}]
    assert threads_of_products() == before


def test_one_part_is_done_where_it_is_asked_for():
    assert on_all_cores(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


def test_an_error_of_a_part_is_raised():
    with pytest.raises(ZeroDivisionError):
        on_all_cores(lambda n: 1 / n, [2, 1, 0])
