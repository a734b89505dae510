import numpy as np
import pytest

from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.evaluation.bench_sustained import _sum_up, measure_sustained


def test_a_load_lasts_as_long_as_asked(fake_model):
    told = []
    report = measure_sustained(fake_model, 0.4, 20, 5, told.append)
    assert report.seconds >= 0.4
    assert report.answers >= 1
    assert told
    assert all("tokens/s" in line for line in told)
    assert min(report.slices_tokens_per_s) == report.lowest_tokens_per_s > 0
    assert report.kept_share == pytest.approx(report.last_tokens_per_s / report.first_tokens_per_s)


def test_a_device_that_slows_down_is_seen():
    """Ten seconds: 100 tokens a second that fall to 25 after half the time; half of it goes to prompts."""
    times = np.concatenate([np.arange(0.02, 5, 0.02), np.arange(5.08, 10, 0.08)])
    spent = np.where(times < 5, 0.01, 0.04)
    report = _sum_up(times, spent, 10.0, 3, 71.0)
    assert report.first_tokens_per_s == pytest.approx(100)
    assert report.last_tokens_per_s == pytest.approx(25)
    assert report.lowest_tokens_per_s == pytest.approx(25)
    assert report.kept_share == pytest.approx(0.25)
    assert report.decode_tokens_per_s == pytest.approx(len(times) / spent.sum())
    assert len(report.slices_tokens_per_s) == 20
    assert (report.answers, report.hottest_c) == (3, 71.0)


def test_what_has_no_meaning_is_refused(fake_model):
    for seconds in (0, float("inf"), float("nan")):
        with pytest.raises(UnsupportedOption, match="above 0, and not endless"):
            measure_sustained(fake_model, seconds, 1, 1)
    with pytest.raises(CapacityError, match="do not fit the context of 128"):
        measure_sustained(fake_model, 1, 100, 29)
