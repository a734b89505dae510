"""Ranks by the chance of yes against no: what each prompt would have alone, in any company."""

from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption
from edgesdk.vectors.rerank import INSTRUCTION, SYSTEM, question

TINY = Path(__file__).parents[2] / "data" / "tiny"
PASSAGES = ["fox", "The lazy dog sleeps.", "", "def main(): return 1", "fox"] * 3


@pytest.fixture(scope="module", params=["litert", "onnxruntime-step"])
def model(request, converted_once):
    bundle = converted_once(
        str(TINY / "llama"), targets=("litert", "onnx-step"), recipes=("f32",), context=2048
    )
    with edgesdk.load(bundle, backend=request.param, strict=True, threads=1) as model:
        yield model


def alone(model, query, passage, words=("yes", "no")):
    ids = model.render_chat(
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": question(query, passage, INSTRUCTION)},
        ]
    )
    logits = model.score(ids)[-1].astype(np.float64)
    yes, no = (logits[model.tokenizer.encode(word, add_bos=False)[0]] for word in words)
    return 1 / (1 + np.exp(no - yes))


def test_scores_are_those_of_each_prompt_alone(model):
    ranked = model.rerank("What jumps?", PASSAGES)
    assert sorted(each.index for each in ranked) == list(range(len(PASSAGES)))
    assert [each.score for each in ranked] == sorted((each.score for each in ranked), reverse=True)
    for each in ranked:
        assert each.score == pytest.approx(alone(model, "What jumps?", PASSAGES[each.index]), abs=1e-4)


def test_other_words_and_nothing_to_rank(model):
    (found,) = model.rerank("q", ["fox"], answers=("true", "no"))
    assert found.score == pytest.approx(alone(model, "q", "fox", ("true", "no")), abs=1e-4)
    assert model.rerank("q", []) == []


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("q", "fox"), {}, "passages is 'fox', expected a list of texts"),
        (("q", [1]), {}, "passages[0] is 1, expected a text"),
        ((None, ["fox"]), {}, "query is None, expected a text"),
        (("q", ["fox"]), {"answers": "yes"}, "answers is 'yes', expected a word for yes and one for no"),
        (("q", ["fox"]), {"answers": ("no", "no")}, "begin with the same token"),
        (("q", ["fox"]), {"answers": ("", "no")}, "the word '' has no tokens"),
        (("q", ["fox"]), {"template_variables": {"enable_thinking": False}}, "enable_thinking"),
    ],
)
def test_what_has_no_meaning_is_refused(model, arguments, options, expected):
    with pytest.raises(UnsupportedOption) as raised:
        model.rerank(*arguments, **options)
    assert expected in str(raised.value)


def test_a_passage_beyond_the_context_is_refused(model):
    with pytest.raises(CapacityError):
        model.rerank("q", ["fox " * 3000])


@pytest.mark.real
def test_the_real_model_finds_the_passage_that_answers(smollm2_float):
    passages = [
        "Bread is baked from flour, water and yeast.",
        "Paris is the capital of France and lies on the Seine.",
        "The guitar has six strings.",
    ]
    with edgesdk.load(smollm2_float, backend="litert", strict=True, threads=2) as model:
        ranked = model.rerank("What is the capital of France?", passages)
        assert sorted(each.index for each in ranked) == [0, 1, 2]
        for each in ranked:
            assert each.score == pytest.approx(
                alone(model, "What is the capital of France?", passages[each.index]), abs=1e-4
            )


@pytest.mark.parametrize("word", ["yes", "no"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_not_numbers_are_no_rank(model, word, wrong, monkeypatch):
    from edgesdk.kv.step_runner import StepRunner

    (token, *_) = model.tokenizer.encode(word, add_bos=False)
    run = StepRunner.run

    def spoilt(self, entries, *args, **kwargs):
        rows = run(self, entries, *args, **kwargs)
        for logits in rows:
            if logits is not None:
                logits.reshape(-1, logits.shape[-1])[-1, token] = wrong
        return rows

    monkeypatch.setattr(StepRunner, "run", spoilt)
    with pytest.raises(DeviceError, match="logits that are not finite numbers; try another backend"):
        model.rerank("What jumps?", PASSAGES)
