"""Counting greedy texts: a bundle against itself under another numbering, and against another model."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgesdk.bundle.id_map import IdMap

IDS = IdMap(10, (0, 2, 3, 5, 7))


@pytest.fixture(scope="module")
def agreement(benchmark_module):
    return benchmark_module("greedy_agreement")


class Scripted:
    """Says what it is told to, and scores token 5 first with token 7 close behind."""

    def __init__(self, answer, gap=0.0005):
        self.answer, self.gap = answer, gap

    def generate(self, prompt, **options):
        assert options["temperature"] == 0.0
        return SimpleNamespace(tokens=tuple(self.answer))

    def score(self, tokens):
        row = np.zeros(10, np.float32)
        row[5], row[7] = 1, 1 - self.gap
        return np.tile(row, (len(tokens), 1))


@pytest.mark.parametrize(
    ("prompt", "full", "pruned", "gap", "field"),
    [
        ([2, 3], [5, 7, 0], [3, 4, 0], 0.0005, "identical"),
        ([2, 3], [5, 9, 0], [3, 1, 1], 0.0005, "identical_before"),
        ([2, 3], [9, 5, 0], [3, 1, 1], 0.0005, "identical_before"),
        ([2, 4], [5, 7, 0], [3, 4, 0], 0.0005, "other_prompts"),
        ([2, 3], [5, 5, 0], [3, 4, 0], 0.0005, "near_ties"),
        ([2, 3], [5, 5, 0], [3, 4, 0], 0.5, "diverged"),
        ([2, 3], [5, 5, 0], [3, 3], 0.0005, "diverged"),
    ],
)
def test_every_case_is_counted(agreement, prompt, full, pruned, gap, field):
    counts = agreement.Counts()
    agreement.compare(Scripted(full, gap), Scripted(pruned), IDS, prompt, 3, counts)
    found = {name for name, value in vars(counts).items() if value and name in OUTCOMES}
    assert found == {field}
    assert counts.prompts + counts.other_prompts == 1


OUTCOMES = {"identical", "identical_before", "other_prompts", "near_ties", "diverged"}
