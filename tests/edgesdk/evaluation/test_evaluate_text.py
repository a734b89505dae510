import dataclasses

import numpy as np
import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk.evaluation.agreement import Agreement
from edgesdk.evaluation.evaluate_text import evaluate_text, text_windows

TEXT = "The quick brown fox jumps over the lazy dog. " * 30


def test_windows_are_the_text_cut_up(fake_model):
    ids = fake_model.tokenizer.encode(TEXT)
    windows = text_windows(fake_model, TEXT, tokens=100, window=32)
    assert [len(w) for w in windows] == [32, 32, 32, 4]
    assert np.concatenate(windows).tolist() == ids[:100]


def test_a_leftover_of_one_token_is_dropped(fake_model):
    assert [len(w) for w in text_windows(fake_model, TEXT, tokens=65, window=32)] == [32, 32]


def test_each_window_starts_as_the_model_wants(fake_model):
    record = dataclasses.replace(fake_model.tokenizer.record, add_bos=True)
    fake_model.tokenizer.record = record
    windows = text_windows(fake_model, TEXT, tokens=40, window=16)
    assert [len(w) for w in windows] == [16, 16, 11]
    assert {int(w[0]) for w in windows} == {record.bos_id}
    ids = fake_model.tokenizer.encode(TEXT, add_bos=False)
    assert np.concatenate([w[1:] for w in windows]).tolist() == ids[:40]


def test_a_long_text_is_not_tokenized_whole(fake_model, monkeypatch):
    asked = []
    encode = fake_model.tokenizer.encode
    monkeypatch.setattr(
        fake_model.tokenizer,
        "encode",
        lambda text, **options: asked.append(len(text)) or encode(text, **options),
    )
    text = TEXT * 1000
    windows = text_windows(fake_model, text, tokens=50, window=50)
    assert np.concatenate(windows).tolist() == encode(TEXT)[:50]
    assert max(asked) < len(text) / 100


def test_windows_are_scored_one_by_one(fake_model, expected):
    windows = text_windows(fake_model, TEXT, tokens=60, window=25)
    other = [np.random.default_rng(len(w)).normal(size=expected(w).shape).astype(np.float32) for w in windows]
    by_hand = Agreement()
    for window, logits in zip(windows, other, strict=True):
        by_hand.add(window, expected(window), logits)
    scores = iter(other)
    assert evaluate_text(fake_model, windows, lambda window: next(scores)) == by_hand.report()
    assert evaluate_text(fake_model, windows).perplexity == by_hand.report().perplexity


@pytest.mark.parametrize(
    ("tokens", "window", "text", "message"),
    [
        (10, 1, TEXT, "a window of 1 tokens"),
        (10, 129, TEXT, "expected 2 to 128"),
        (1, 10, TEXT, "at least 2"),
        (10, 10, "", "the text has 0 tokens"),
    ],
)
def test_what_cannot_be_scored_is_refused(tokens, window, text, message, fake_model):
    with pytest.raises(UnsupportedOption, match=message):
        text_windows(fake_model, text, tokens=tokens, window=window)
