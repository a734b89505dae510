"""Matrices that are read a few rows at a time give what the whole ones give, and are never whole."""

import dataclasses

import numpy as np
import pytest

from edgesdk_converters.graph import read_by_rows
from edgesdk_converters.graph.full_sequence import sequence_logits

FEW = 500  # numbers


class Rows:
    """Weights with rows, and how many numbers of a matrix were asked for at once."""

    def __init__(self, base):
        self.base, self.most, self.rows = base, 0, []

    def __iter__(self):
        return iter(self.base)

    def shape(self, name):
        return self.base.shape(name)

    def load(self, name):
        return self._given(self.base.load(name))

    def has_rows(self, name):
        return True

    def load_rows(self, name, start, stop):
        self.rows.append((name, start, stop))
        return self._given(self.base.load(name)[start:stop])

    def _given(self, values):
        if values.ndim == 2:
            self.most = max(self.most, values.size)
        return values


def test_no_pass_holds_a_large_matrix(any_program, tokens, monkeypatch):
    expected = next(sequence_logits(any_program, [tokens]))
    monkeypatch.setattr(read_by_rows, "_READ_AT_ONCE", FEW)
    rows = Rows(any_program.weights)
    found = next(sequence_logits(dataclasses.replace(any_program, weights=rows), [tokens]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert 0 < rows.most <= FEW


def test_of_a_table_the_rows_of_the_text_are_read_once(make_program, monkeypatch):
    program = make_program("untied")
    monkeypatch.setattr(read_by_rows, "_READ_AT_ONCE", FEW)
    rows = Rows(program.weights)
    picks = np.array([7, 3, 7, 0], np.int32)
    found = read_by_rows.picked_rows(rows, "embed", picks)
    np.testing.assert_array_equal(found, program.weights.load("embed")[picks])
    assert rows.rows == [("embed", row, row + 1) for row in (0, 3, 7)]


@pytest.mark.parametrize("starts", [(0, 0), (3, 0), (9, 4)])
def test_logits_from_a_token_on(make_program, tokens, starts):
    program, texts = make_program("plain"), [tokens, tokens[:5]]
    whole = list(sequence_logits(program, texts))
    found = list(sequence_logits(program, texts, starts=starts))
    for rows, every, start in zip(found, whole, starts, strict=True):
        np.testing.assert_allclose(rows, every[start:], rtol=1e-5, atol=1e-5)
