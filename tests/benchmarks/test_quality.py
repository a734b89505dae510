"""The whole benchmark on a tiny checkpoint, and the protocol of the peer's worker."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgesdk_converters.convert import ConvertOptions, convert

TINY = Path(__file__).parents[1] / "data" / "tiny"
STAND_IN = '''
"""Stands in for llama.cpp where it is not installed: the logits of a token are its id, and on."""

import numpy as np

__version__ = "0.0"


class Llama:
    def __init__(self, path, n_ctx, **rest):
        assert rest["logits_all"]
        self.path, self.scores = path, np.zeros((n_ctx, 4), np.float32)

    def tokenize(self, text, add_bos, special):
        return list(text)

    def reset(self):
        pass

    def eval(self, tokens):
        if tokens[0] == 13:
            raise SystemExit(3)
        self.scores[: len(tokens)] = np.array(tokens)[:, None] + np.arange(4)
'''


@pytest.fixture(scope="module")
def quality(benchmark_module):
    return benchmark_module("quality")


@pytest.fixture(scope="module")
def candidates(benchmark_module):
    return benchmark_module("candidates")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, short_text):
    options = ConvertOptions(
        targets=("onnx",),
        recipes=("f32", "w8"),
        context=128,
        prove=False,
        allow_parity_miss=True,
        calibration=short_text,
    )
    return convert(str(TINY / "llama"), tmp_path_factory.mktemp("quality") / "tiny", options)


@pytest.fixture
def run(quality, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))

    def invoke(source="llama", *more):
        out = tmp_path / "figures.json"
        arguments = [str(TINY / source), "--bundle", str(bundle), "--peers", "", "--texts", "technical"]
        arguments += ["--tokens", "200", "--window", "32", "--threads", "1", "--json", str(out), *more]
        result = CliRunner().invoke(quality.main, arguments)
        return result, json.loads(out.read_text()) if result.exit_code == 0 else None

    return invoke


def test_float32_is_the_reference_and_int8_is_near_it(run, bundle):
    result, document = run()
    assert result.exit_code == 0, result.output
    exact, int8 = document["rows"]
    assert [exact["recipe"], int8["recipe"]] == ["f32", "w8"]
    figures = exact["texts"]["technical"]
    assert figures["positions"] == 7 * 31
    assert figures["perplexity_ratio"] == pytest.approx(1, abs=1e-4)
    assert figures["top1_agreement"] > 0.99
    assert figures["kl_nats"] < 1e-6
    assert 1e-7 < int8["texts"]["technical"]["kl_nats"] < 0.1
    folder = bundle / "variants" / "onnx-w8"
    weights = [path for path in folder.iterdir() if path.suffix in (".onnx", ".data")]
    assert int8["weights_bytes"] == sum(path.stat().st_size for path in weights)
    assert "| onnx-w8 (onnxruntime) " in result.output


def test_a_second_run_scores_nothing(run, candidates, monkeypatch):
    _, first = run()

    def refuse(self, window):
        raise AssertionError("scored again")

    monkeypatch.setattr(candidates.BundleCandidate, "score", refuse)
    result, second = run()
    assert result.exit_code == 0, result.output
    assert second == first


def test_more_tokens_score_only_the_new_windows(run, candidates, monkeypatch):
    run()
    scored = []
    score = candidates.BundleCandidate.score
    monkeypatch.setattr(
        candidates.BundleCandidate, "score", lambda self, w: scored.append(1) or score(self, w)
    )
    _, document = run("llama", "--tokens", "300", "--variants", "onnx-f32")
    assert document["texts"]["technical"]["windows"] == 10
    assert len(scored) == 3


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ("qwen2", [], "was converted from"),
        ("llama", ["--peers", "Q8_0"], "made from a GGUF source"),
        ("llama", ["--variants", "nosuch"], "no bundle has a variant nosuch"),
        ("llama", ["--texts", "poetry"], "poetry"),
        ("llama", ["--backends", "nosuch"], "backend 'nosuch' is unknown"),
        ("llama", ["--tokens", "100000000"], "ask for fewer tokens"),
        ("absent", [], "absent"),
    ],
)
def test_mistakes_are_said_in_one_line(run, source, more, says):
    result, _ = run(source, *more)
    assert result.exit_code in (1, 2)
    assert says in result.output
    assert isinstance(result.exception, SystemExit)


def test_where_tokenisations_part(quality):
    assert quality.first_difference([1, 2], [1, 2]) is None
    assert quality.first_difference([1, 2], [1, 3]) == 1
    assert quality.first_difference([1, 2], [1, 2, 3]) == 2
    assert quality.first_difference([], [1]) == 0


@pytest.fixture
def peer(candidates, tmp_path, monkeypatch):
    (tmp_path / "llama_cpp.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    model = tmp_path / "model.gguf"
    model.write_bytes(b"x" * 10)
    engine = candidates.peer_engine(Path(sys.executable))
    candidate = candidates.PeerCandidate(Path(sys.executable), engine, "Q8_0", model, 8, 1)
    yield candidate
    candidate.close()


def test_the_peers_worker_scores_and_tokenises(peer):
    assert peer.engine == "llama-cpp-python 0.0"
    assert peer.weights_bytes == 10
    for window in ([5, 6], [7, 8, 9]):
        found = peer.score(np.array(window, np.int32))
        np.testing.assert_array_equal(found, np.array(window)[:, None] + np.arange(4))
    assert peer.tokenize("ab") == [97, 98]


def test_a_worker_that_ends_is_named(peer, candidates):
    with pytest.raises(candidates.click.ClickException, match=r"llama\.cpp Q8_0 ended with status 3"):
        peer.score(np.array([13], np.int32))


def test_an_interpreter_without_the_peer_is_refused(candidates, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(candidates.click.ClickException, match="cannot be run"):
        candidates.peer_engine(tmp_path / "nosuch")


def test_a_changed_file_is_another_candidate(candidates, peer, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"y" * 10)
    python = Path(sys.executable)
    changed = candidates.PeerCandidate(python, peer.engine, "Q8_0", other, 8, 1)
    updated = candidates.PeerCandidate(python, "llama-cpp-python 0.1", "Q8_0", tmp_path / "model.gguf", 8, 1)
    assert len({peer.digest, changed.digest, updated.digest}) == 3
