"""Figures by window: the same as in one run, measured once."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from edgesdk.evaluation.agreement import Agreement


@pytest.fixture(scope="module")
def figures(benchmark_module):
    return benchmark_module("window_figures")


@pytest.fixture(scope="module")
def logits_module(benchmark_module):
    return benchmark_module("reference_logits")


class Noisy:
    """Logits of a reference with noise on them; counts how often it is asked."""

    def __init__(self, digest, noise):
        self.digest, self.noise, self.asked = digest, noise, 0

    def score(self, window):
        self.asked += 1
        noise = np.random.default_rng(int(window.sum())).normal(size=(len(window), 50))
        return (truth(window) + self.noise * noise).astype(np.float32)


def truth(window):
    return np.random.default_rng(int(window[0])).normal(size=(len(window), 50)).astype(np.float32) * 3


@pytest.fixture
def windows():
    order = np.random.default_rng(5)
    return [order.integers(0, 50, size).astype(np.int32) for size in (16, 16, 16, 9)]


@pytest.fixture
def reference(logits_module, tmp_path):
    return logits_module.ReferenceLogits(tmp_path / "reference", "s" * 64, lambda: truth)


def test_windows_sum_up_to_one_run(figures, windows, reference, tmp_path):
    candidate, whole = Noisy("c", 0.5), Agreement()
    for window in windows:
        whole.add(window, candidate.score(window), truth(window))
    measurements = figures.Measurements(tmp_path, candidate, "s")
    found = figures.sum_up([measurements.measure(candidate, w, reference) for w in windows])
    expected = asdict(whole.report())
    del expected["kl_p99_nats"]  # of all positions, which windows do not keep
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name
    assert 0 < found.ratio_error < 0.5


def test_the_error_is_that_of_the_mean_over_windows(figures):
    reports = [
        figures.AgreementReport(10, 10.0 * math.exp(d), 10.0, math.exp(d), 0.0, 1.0) for d in (0.0, 0.2)
    ]
    found = figures.sum_up(reports)
    assert found.perplexity_ratio == pytest.approx(math.exp(0.1))
    assert found.ratio_error == pytest.approx(math.exp(0.1) * 0.1)
    assert figures.sum_up(reports[:1]).ratio_error is None


def test_a_broken_model_has_a_figure_too(figures):
    broken = figures.AgreementReport(10, math.inf, 10.0, math.inf, 900.0, 0.0)
    found = figures.sum_up([broken, broken])
    assert math.isinf(found.perplexity_ratio)
    assert found.ratio_error is None


def test_what_was_measured_is_not_measured_again(figures, windows, reference, tmp_path):
    first = Noisy("c", 0.5)
    for window in windows[:2]:
        figures.Measurements(tmp_path, first, "s").measure(first, window, reference)
    assert first.asked == 2
    again = Noisy("c", 0.5)
    measurements = figures.Measurements(tmp_path, again, "s")
    reports = [measurements.measure(again, window, reference) for window in windows]
    assert again.asked == 2
    assert reports[0] == figures.Measurements(tmp_path, again, "s").measure(again, windows[0], reference)


@pytest.mark.parametrize(("digest", "source"), [("other", "s"), ("c", "other")])
def test_another_file_or_source_is_measured_anew(figures, windows, reference, tmp_path, digest, source):
    first = Noisy("c", 0.5)
    figures.Measurements(tmp_path, first, "s").measure(first, windows[0], reference)
    other = Noisy(digest, 0.5)
    figures.Measurements(tmp_path, other, source).measure(other, windows[0], reference)
    assert other.asked == 1


def test_the_reference_is_computed_once_and_read_exactly(logits_module, windows, tmp_path):
    opened = []

    def open_scorer():
        opened.append(1)
        return truth

    for _ in range(2):
        reference = logits_module.ReferenceLogits(tmp_path, "s" * 64, open_scorer)
        for window in windows:
            np.testing.assert_array_equal(reference(window), truth(window))
    assert opened == [1]
    assert len(list(tmp_path.rglob("*.npy"))) == len(windows)


def test_a_reference_that_was_cut_short_is_computed_again(logits_module, windows, tmp_path):
    logits_module.ReferenceLogits(tmp_path, "s" * 64, lambda: truth)(windows[0])
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:200])
    found = logits_module.ReferenceLogits(tmp_path, "s" * 64, lambda: truth)(windows[0])
    np.testing.assert_array_equal(found, truth(windows[0]))


def test_a_full_disk_is_said_in_one_line(logits_module, windows, tmp_path, monkeypatch):
    monkeypatch.setattr(logits_module, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(logits_module.click.ClickException, match="GB free"):
        logits_module.ReferenceLogits(tmp_path, "s" * 64, lambda: truth)(windows[0])
    assert not list(tmp_path.rglob("*.npy"))


def test_figures_survive_as_json(figures, windows, reference, tmp_path):
    candidate = Noisy("c", 0.1)
    report = figures.Measurements(tmp_path, candidate, "s").measure(candidate, windows[0], reference)
    (path,) = tmp_path.glob("*.json")
    assert asdict(report) in json.loads(path.read_text()).values()
