"""Trees of guesses, all of them and the better half: by a tiny model whose streams say anything."""

import numpy as np
import pytest

from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.streams.stream_checkpoint import write_streams
from tests.converters.streams.test_add_streams import DATA, FORMS, make_streams

TEXT = np.random.default_rng(3).integers(3, 60, 16).astype(np.int32)
PLACES = np.array([4, 9, 13])


@pytest.fixture(scope="module")
def trees(benchmark_module):
    return benchmark_module("stream_trees")


@pytest.fixture(scope="module", params=FORMS)
def judge(request, trees, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    *_, streams = make_streams("llama", request.param)
    write_streams(folder, streams)
    return trees.Judge(str(DATA / "llama"), folder, 1)


def test_half_of_a_tree_is_a_tree(trees):
    nodes = trees.paths_of(3, 2)
    assert len(nodes) == 12
    assert nodes[:4] == [(0,), (1,), (2,), (0, 0)]
    random = np.random.default_rng(0)
    for _ in range(50):
        scores = {(): 1.0}
        for path in nodes:
            scores[path] = scores[path[:-1]] * float(random.choice([0.1, 0.5, 1.0]))
        kept = trees.better_half(scores, nodes)
        assert len(kept) == 6
        assert all(len(path) == 1 or path[:-1] in kept for path in kept)
    assert trees.better_half({(0,): 0.1, (0, 0): 0.1}, [(0,), (0, 0)]) == {(0,)}


def test_an_exit_sees_the_path_before_it(trees, judge):
    """Rows of a tree say what the last token of their path's own text says."""
    rows = trees.Rows([5, 16, 16], [7, 9, 8], [0, 0, 0], [5, 5, 5])
    found = judge.exits(TEXT, rows)["exit"]
    for row, text in ((5, TEXT[:6]), (16, [*TEXT[:6], 7]), (17, [*TEXT[:6], 7, 9]), (18, [*TEXT[:6], 7, 8])):
        alone = judge.exits(np.array(text, np.int32), trees.Rows([], [], [], []))["exit"]
        np.testing.assert_allclose(found[row], alone[-1], atol=1e-5)


def test_a_fitted_exit_is_nearer_to_the_model(trees, judge):
    texts = [np.random.default_rng(i).integers(3, 60, 100).astype(np.int32) for i in range(3)]
    judge.fit(texts)
    (logits,) = sequence_logits(judge.program, [texts[0]])
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    exits = judge.exits(texts[0], trees.Rows([], [], [], []))
    off = {name: np.abs(given - shares).sum(axis=-1).mean() for name, given in exits.items()}
    assert off["fitted"] < off["exit"]


def test_all_of_a_tree_brings_what_is_among_the_likeliest(trees, judge):
    found = trees.reaches(judge, TEXT, PLACES)
    shares = judge.streams(TEXT, PLACES)
    for k in trees.BRANCHES:
        expected = []
        for at, place in enumerate(PLACES.tolist()):
            right = 0
            for j, token in enumerate(TEXT[place + 2 : place + 2 + shares.shape[1]].tolist()):
                if (shares[at, j] > shares[at, j, token]).sum() >= k:
                    break
                right += 1
            expected.append(right)
        assert found["all", k] == expected
        for name in trees.JUDGES[1:3]:
            assert all(a <= b for a, b in zip(found[name, k], expected, strict=True))
    calls = trees.measure(judge, [(TEXT, 4)])
    assert all(calls[name, k] <= calls["all", k] for name, k in calls)
