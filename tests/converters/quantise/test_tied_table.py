"""Tables that are a head as well: fitted to what the head is multiplied with."""

import numpy as np
import pytest

from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.quantise import gptq, tied_table
from edgesdk_converters.quantise.gram_factor import row_losses
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.tied_table import gptq_table, head_grams

INT4 = Scheme(4, 32, "gptq")


@pytest.fixture
def program(make_program):
    return make_program("plain")


@pytest.fixture
def texts(program):
    random = np.random.default_rng(5)
    # A few words only: their inputs to the head lie close together, as those of real text do.
    return [random.integers(0, 12, 24).astype(np.int32) for _ in range(12)]


def test_logits_come_nearer_than_by_rounding_and_rows_stay(program, texts):
    table = program.weights.load("embed")
    found = gptq_table(table, head_grams(program, ["embed"], texts[:8])["embed"], INT4)
    rounded = round_to_nearest(table, Scheme(4, 32, "clip_search")).dequantise()
    held_out = head_grams(program, ["embed"], texts[8:])["embed"]
    lost = found.tensor.dequantise() - table
    assert row_losses(lost, held_out).sum() < 0.7 * row_losses(rounded - table, held_out).sum()
    assert found.loss < found.rounding_loss
    # Looked up, rows lose more than by rounding, and not much more: that is what the share is for.
    assert np.linalg.norm(lost) < 1.5 * np.linalg.norm(rounded - table)


def test_the_gram_matrix_is_that_of_the_heads_inputs(program, texts):
    gram = head_grams(program, ["embed"], texts[:2])["embed"]
    table = program.weights.load("embed").astype(np.float64)
    # Without a scale or a bias after it, the head is all that makes logits of its inputs.
    logits = np.concatenate(list(sequence_logits(program, texts[:2]))).astype(np.float64)
    np.testing.assert_allclose(table @ gram @ table.T, logits.T @ logits, rtol=1e-3, atol=1e-2)


def test_rows_do_not_depend_on_how_many_go_together(program, texts, monkeypatch):
    table, gram = program.weights.load("embed"), head_grams(program, ["embed"], texts[:2])["embed"]
    whole = gptq_table(table, gram, INT4)
    monkeypatch.setattr(gptq, "_ROWS_AT_ONCE", 7)
    parts = gptq_table(table, gram, INT4)
    # Sums in another order may tip a tie; nothing else differs.
    assert (whole.tensor.values != parts.tensor.values).mean() < 0.01
    assert parts.loss == pytest.approx(whole.loss, rel=1e-2)


def test_columns_that_only_look_ups_read_are_kept_well(program, texts):
    table = program.weights.load("embed").copy()
    table[:, 5] *= 8
    gram = head_grams(program, ["embed"], texts)["embed"]
    gram[5], gram[:, 5] = 0, 0
    errors = {}
    for share in (tied_table.LOOKUP_SHARE, tied_table.UNREACHED_SHARE):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tied_table, "UNREACHED_SHARE", share)
            lost = gptq_table(table, gram, INT4).tensor.dequantise() - table
        errors[share] = np.linalg.norm(lost[:, 5])
    assert errors[tied_table.UNREACHED_SHARE] < 0.8 * errors[tied_table.LOOKUP_SHARE]
