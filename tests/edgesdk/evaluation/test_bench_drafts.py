import pytest

import edgesdk
from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.evaluation.bench_drafts import measure_drafts


@pytest.fixture(scope="module")
def tiny(converted_once, tiny_checkpoint):
    bundle = converted_once(
        tiny_checkpoint, targets=("litert",), recipes=("f32",), context=256, allow_parity_miss=True
    )
    with edgesdk.load(bundle, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def tiny_checkpoint():
    from pathlib import Path

    return Path(__file__).parents[2] / "data" / "tiny" / "llama"


def test_figures_follow_from_one_another(tiny):
    report = measure_drafts(tiny, "lookup", 24, 2)
    assert report.drafter == "lookup+grammar"
    assert report.memory_bytes > 0
    assert [text.name for text in report.texts] == ["copy", "open"]
    for text in report.texts:
        assert text.new_tokens == 24
        assert text.same  # float32: drafts change nothing
        assert text.plain_tokens_per_s > 0
        assert text.drafted_tokens_per_s > 0
        steps = 24 / text.block_efficiency
        assert text.kept_per_step == pytest.approx((24 - steps) / steps)
        assert text.drafted_share == pytest.approx((24 - steps) / 24)


def test_the_model_stays_open(tiny):
    measure_drafts(tiny, "lookup", 8, 1, texts=["a text to look up in"])
    assert tiny.generate("ab", max_tokens=2).new_tokens


def test_a_long_text_is_cut_to_the_context(tiny):
    report = measure_drafts(tiny, "lookup", 150, 1)
    assert report.texts[0].prompt_tokens <= 256 - 150


@pytest.mark.parametrize(("draft", "tokens", "repeat"), [("off", 8, 1), ("lookup", 1, 1), ("lookup", 8, 0)])
def test_what_measures_nothing_is_refused(tiny, draft, tokens, repeat):
    with pytest.raises(UnsupportedOption):
        measure_drafts(tiny, draft, tokens, repeat)


def test_what_does_not_fit_is_refused(tiny):
    with pytest.raises(CapacityError, match="do not fit the context of 256"):
        measure_drafts(tiny, "lookup", 254, 1)
