"""Integers that wait in files are the same integers; large matrices are made a few rows at a time."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from edgesdk_converters.graph.weights import has_rows, load_rows
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise import quantised_weights, tensor_spool
from edgesdk_converters.quantise.palettise import palettise
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Scheme, find_recipe
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.tensor_spool import TensorSpool

WEIGHT = np.random.default_rng(0).standard_normal((640, 512)).astype(np.float32)


@pytest.mark.parametrize("scheme", [Scheme(8, None, "round"), Scheme(4, 32, "clip_search")])
def test_what_is_kept_in_a_file_is_what_was_put_there(tmp_path, scheme):
    made = round_to_nearest(WEIGHT, scheme)
    kept = TensorSpool(tmp_path / "spool").keep(made)
    np.testing.assert_array_equal(kept.values, made.values)
    np.testing.assert_array_equal(kept.scales, made.scales)
    assert (kept.bits, kept.block, kept.values.dtype) == (made.bits, made.block, np.int8)
    assert not kept.values.flags.writeable
    assert [path.stat().st_size for path in (tmp_path / "spool").iterdir()] == [WEIGHT.size]


def test_small_tensors_and_palettes_stay_where_they_are(tmp_path):
    spool = TensorSpool(tmp_path / "spool")
    small = round_to_nearest(WEIGHT[:8], Scheme(8, None, "round"))
    palette = palettise(WEIGHT, Scheme(4, None, "palette", 16))
    assert spool.keep(small) is small
    assert spool.keep(palette) is palette
    assert list(tmp_path.iterdir()) == []


def test_files_may_go_while_their_integers_are_read(tmp_path):
    if not hasattr(mmap, "MADV_DONTNEED"):
        pytest.skip("Windows keeps files that are mapped")
    made = round_to_nearest(WEIGHT, Scheme(8, None, "round"))
    kept = TensorSpool(tmp_path / "spool").keep(made)
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    np.testing.assert_array_equal(kept.values, made.values)


def test_files_go_with_the_block_and_integers_that_are_held_stay_what_they_are(tmp_path):
    if not hasattr(mmap, "MADV_DONTNEED"):
        pytest.skip("Windows keeps files that are mapped")
    made = round_to_nearest(WEIGHT, Scheme(8, None, "round"))
    with TensorSpool(tmp_path / "spool") as spool:
        kept = [spool.keep(made) for _ in range(2)]
        assert len(list((tmp_path / "spool").iterdir())) == 2
        assert _resident_kib(".int8") in (None, 0)
        assert all((tensor.values == made.values).all() for tensor in kept)
        assert _resident_kib(".int8") in (None, 2 * WEIGHT.size // 1024)
    assert list(tmp_path.iterdir()) == []
    assert _resident_kib(".int8") in (None, 0)
    np.testing.assert_array_equal(kept[1].values, made.values)


def _resident_kib(name):
    """Of the mapped files with `name` in theirs; None where the system does not say."""
    if not Path("/proc/self/smaps").exists():
        return None
    total, counted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split(" ", 1)[0].endswith(":"):
            counted = name in line
        elif counted and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_some_rows_of_every_weight_are_those_of_the_whole(any_program):
    for recipe in ("f32", "w8-round"):
        weights = prepare(any_program, find_recipe(recipe)).weights
        for name in weights:
            whole = weights.load(name)
            some = load_rows(weights, name, 1, min(5, len(whole)))
            np.testing.assert_allclose(some, whole[1:5], rtol=0, atol=1e-6 * np.abs(whole).max())


def test_rows_at_a_time_are_the_same_integers(make_program, tmp_path, monkeypatch):
    prepared = prepare(make_program("untied"), find_recipe("w8-round"))
    whole = QuantisedWeights(prepared.weights, find_recipe("w8-round"))
    monkeypatch.setattr(tensor_spool, "_SMALLEST_BYTES", 0)
    monkeypatch.setattr(quantised_weights, "_ROWS_AT_ONCE", 7)
    few = QuantisedWeights(prepared.weights, find_recipe("w8-round"), None, TensorSpool(tmp_path))
    for name in prepared.weights:
        if whole.scheme(name) is None:
            continue
        a, b = whole.quantised(name), few.quantised(name)
        # Sums may come out in another order, and a number between two integers as the other one.
        assert np.abs(a.values.astype(int) - b.values).max() <= 1
        assert (a.values != b.values).mean() < 1e-3
        np.testing.assert_allclose(b.scales, a.scales, rtol=1e-6)
        assert few.relative_error(name) == pytest.approx(whole.relative_error(name), rel=1e-3)
    assert len(list(tmp_path.iterdir())) > 4


def test_columns_of_the_stream_turn_row_by_row_and_rows_do_not(make_program):
    """What joins the stream is turned on its other side, where every row depends on all."""

    class WithRows:
        def __init__(self, base):
            self.base = base

        def __iter__(self):
            return iter(self.base)

        def __getattr__(self, name):
            return getattr(self.base, name)

        def has_rows(self, name):
            return True

        def load_rows(self, name, start, stop):
            return self.base.load(name)[start:stop]

    import dataclasses

    program = make_program("untied")
    rotated = prepare(
        dataclasses.replace(program, weights=WithRows(program.weights)), find_recipe("w8-round")
    )
    assert has_rows(rotated.weights, "embed")
    assert has_rows(rotated.weights, "layers.0.q_k_v")
    assert has_rows(rotated.weights, "layers.0.gate_up")
    assert not has_rows(rotated.weights, "layers.0.o")
    assert not has_rows(rotated.weights, "layers.0.down")
    whole = rotated.weights.load("layers.0.q_k_v")
    np.testing.assert_allclose(rotated.weights.load_rows("layers.0.q_k_v", 60, 100), whole[60:100], atol=1e-6)
