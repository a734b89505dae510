import statistics

import pytest

from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.evaluation.bench import measure_speed


def test_every_round_is_reported(fake_model):
    report = measure_speed(fake_model, 40, 5, 3)
    assert (report.prompt_tokens, report.new_tokens, report.repeat) == (40, 5, 3)
    assert len(report.prefill_rounds) == len(report.decode_rounds) == len(report.ttft_rounds_ms) == 3
    assert report.prefill_tokens_per_s == statistics.median(report.prefill_rounds)
    assert report.decode_tokens_per_s == statistics.median(report.decode_rounds)
    assert report.ttft_ms == statistics.median(report.ttft_rounds_ms)
    for rate, ttft_ms in zip(report.prefill_rounds, report.ttft_rounds_ms, strict=True):
        assert rate * ttft_ms == pytest.approx(40e3)
    assert report.first_ttft_ms > 0
    assert report.load_ms == fake_model.receipt.load_ms
    assert report.receipt is fake_model.receipt


def test_it_runs_what_it_says(fake_model):
    backend = fake_model._backend.backend
    measure_speed(fake_model, 20, 3, 2)
    # 20 tokens are a chunk of 16 and more; three rounds, the first of them uncounted.
    assert sum(shape.tokens == 1 for shape in backend.runs) % 3 == 0
    assert len(backend.runs) % 3 == 0
    assert sum(shape.tokens == 16 for shape in backend.runs) >= 3


def test_a_context_may_be_filled_to_the_last_token(fake_model):
    assert measure_speed(fake_model, 120, 8, 1).new_tokens == 8
    with pytest.raises(CapacityError, match="do not fit the context of 128"):
        measure_speed(fake_model, 121, 8, 1)


@pytest.mark.parametrize("counts", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_counts_are_at_least_one(counts, fake_model):
    with pytest.raises(UnsupportedOption, match="expected at least 1"):
        measure_speed(fake_model, *counts)
