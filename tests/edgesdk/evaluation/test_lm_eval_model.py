"""The harness itself runs here, where its extra is; benchmarks/harness_agreement.py compares transformers."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.errors import MissingExtra, UnsupportedOption
from edgesdk.evaluation.agreement import log_softmax

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
INSTALLED = importlib.util.find_spec("lm_eval") is not None
needed = pytest.mark.skipif(not INSTALLED, reason="needs the extra 'lm-eval'")

TASK = """task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc}]
"""


class Request:
    def __init__(self, *args):
        self.args = args


@pytest.fixture(scope="module")
def loaded(converted_once):
    bundle = converted_once(TINY, targets=("litert",), recipes=("f32",), context=64, prove=False)
    with edgesdk.load(bundle) as model:
        yield model


@pytest.fixture(scope="module")
def harness(loaded):
    from edgesdk.evaluation.lm_eval_model import HarnessModel

    return HarnessModel(loaded)


@pytest.mark.skipif(INSTALLED, reason="the extra 'lm-eval' is there")
def test_without_the_extra_the_error_names_it():
    with pytest.raises(MissingExtra, match=r"edgesdk\[lm-eval\]"):
        importlib.import_module("edgesdk.evaluation.lm_eval_model")


@needed
def test_a_continuation_has_the_probability_that_the_model_gives(harness, loaded):
    (found, greedy), (other, _) = harness.loglikelihood(
        [Request("The sea", " is wide"), Request("", "The sea")], disable_tqdm=True
    )
    ids = loaded.tokenize("The sea is wide")
    count = len(ids) - len(loaded.tokenize("The sea"))
    rows = log_softmax(loaded.score(ids[:-1]))[-count:]
    assert found == pytest.approx(rows[np.arange(count), ids[-count:]].sum(), abs=1e-6)
    assert greedy == (rows.argmax(-1) == ids[-count:]).all()
    start = harness.prefix_token_id
    text = [start, *loaded.tokenizer.encode("The sea", add_bos=False)]
    rows = log_softmax(loaded.score(text[:-1]))
    assert other == pytest.approx(rows[np.arange(len(rows)), text[1:]].sum(), abs=1e-6)


@needed
def test_a_long_text_rolls_through_the_context(harness, loaded):
    """Every token is predicted once: first 64 from the start token, later ones with all that fits before."""
    text = "The quick brown fox jumps over the lazy dog, and the dog sleeps. " * 6
    ids = loaded.tokenize(text)
    size = loaded.context
    assert len(ids) > 2 * size
    by_hand, done = 0.0, 0
    padded = [harness.prefix_token_id, *ids]
    while done < len(ids):
        count = min(size, len(ids) - done)
        end = done + count
        window = padded[max(0, end - size) : end]
        rows = log_softmax(loaded.score(window))[-count:]
        by_hand += rows[np.arange(count), ids[done:end]].sum()
        done = end
    (found,) = harness.loglikelihood_rolling([Request(text)], disable_tqdm=True)
    assert found == pytest.approx(by_hand, rel=1e-6)


@needed
def test_a_context_that_is_too_long_keeps_its_end(harness, loaded):
    long = "word " * 200
    (found, _), (short, _) = harness.loglikelihood(
        [Request(long, " end"), Request(long[5:], " end")], disable_tqdm=True
    )
    assert np.isfinite(found)
    assert found == pytest.approx(short, abs=1e-4)


@needed
def test_answers_are_those_of_generate(harness, loaded):
    asked = {"until": ["zzzz"], "max_gen_toks": 6, "do_sample": False}
    (found,) = harness.generate_until([Request("The sea", asked)], disable_tqdm=True)
    assert found == loaded.generate("The sea", max_tokens=6, temperature=0).text
    stop = found[1:3]
    (cut,) = harness.generate_until([Request("The sea", {**asked, "until": [stop]})], disable_tqdm=True)
    assert cut == found[: found.index(stop)]
    with pytest.raises(UnsupportedOption, match="generates with num_beams"):
        harness.generate_until([Request("The sea", {**asked, "num_beams": 4})], disable_tqdm=True)


@needed
def test_the_harness_runs_a_task_of_ones_own(loaded, tmp_path, monkeypatch):
    from edgesdk.evaluation.lm_eval_model import run_harness

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"question": f"{n} and", "choices": [" one", " two"], "label": n % 2} for n in range(6)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "tiny_choice.yaml").write_text(TASK % (tmp_path / "data.jsonl"), encoding="utf-8")
    found = run_harness(loaded, ["tiny_choice"], include_path=tmp_path)
    right = 0
    for row in rows:
        scores = []
        for choice in row["choices"]:
            ids = loaded.tokenize(row["question"] + " " + choice)
            count = len(ids) - len(loaded.tokenize(row["question"]))
            rows_ = log_softmax(loaded.score(ids[:-1]))[-count:]
            scores.append(rows_[np.arange(count), ids[-count:]].sum())
        right += int(np.argmax(scores)) == row["label"]
    assert found["tiny_choice/acc"] == pytest.approx(right / 6)
    with pytest.raises(UnsupportedOption, match="has no task 'nothing'"):
        run_harness(loaded, ["nothing"])
