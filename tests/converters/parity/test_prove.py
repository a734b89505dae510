"""What a proof holds in memory while a variant runs, and what it makes of answers."""

import gc
from pathlib import Path

import numpy as np
import pytest

from edgesdk.evaluation.greedy import first_divergence
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.parity import prove
from edgesdk_converters.quantise import tensor_spool

TINY = Path(__file__).parents[2] / "data" / "tiny"


def test_the_model_that_is_compared_has_found_its_packed_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    seen = []
    options = ConvertOptions(("litert", "onnx-step"), ("f32",))
    convert(
        str(TINY / "llama"),
        tmp_path / "bundle",
        options,
        proven=lambda model, report: seen.append((report.backend, model.receipt.weight_cache)),
    )
    assert seen == [("litert", "hit"), ("onnxruntime-step", None)]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads mappings from /proc")
def test_integers_are_neither_mapped_nor_on_the_disk_while_a_variant_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_spool, "_SMALLEST_BYTES", 0)
    written, seen = [], []

    def mapped():
        return [line for line in Path("/proc/self/maps").read_text().splitlines() if ".int8" in line]

    def look(model, report):
        seen.append((mapped(), list(tmp_path.rglob("*.int8"))))

    def count(progress):
        if progress.stage == "writing":
            written.append(len(mapped()))

    gc.collect()
    gc.disable()  # what a circle of objects holds would go or stay by chance
    try:
        options = ConvertOptions(("litert", "onnx-step"), ("w8-round",))
        convert(str(TINY / "llama"), tmp_path / "bundle", options, report=count, proven=look)
    finally:
        gc.enable()
    assert max(written) > 0
    assert seen == [([], []), ([], [])]


def test_answers_are_compared_from_their_prompts_on_each_other_one_once(make_program, tokens, monkeypatch):
    program = make_program("plain")
    best = next(sequence_logits(program, [tokens])).argmax(-1)
    as_chosen = np.concatenate([tokens[:4], best[3:4]]).astype(np.int32)
    answers = [(2, tokens), (5, tokens), (4, as_chosen), (5, tokens), (1, tokens[:3])]
    scored = []

    def logits(program, texts, starts):
        scored.extend(texts)
        return sequence_logits(program, texts, starts=starts)

    monkeypatch.setattr(prove, "sequence_logits", logits)
    monkeypatch.setattr(prove, "_SCORED_AT_ONCE", 3)
    found = prove._first_divergences(program, answers, None)
    assert len(scored) == 4
    for count, text in answers:
        expected = first_divergence(count, text, next(sequence_logits(program, [text])))
        divergence = found[prove._key((count, text))]
        assert (divergence is None) == (expected is None)
        if expected is not None:
            assert divergence.at == expected.at
            assert divergence.gap == pytest.approx(expected.gap, abs=1e-4)
    assert found[prove._key((4, as_chosen))] is None
