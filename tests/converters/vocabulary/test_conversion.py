"""A pruned checkpoint goes through the whole pipeline: every target, every kind of recipe, parity, text."""

import pytest

from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.prune_request import PruneRequest
from edgesdk_converters.vocabulary.prune_vocab import prune_vocab
from edgesdk_converters.vocabulary.tokenizer_data import load_engine


@pytest.mark.parametrize("tiny", ["llama", "llama-untied-bias"])
def test_it_converts_proves_and_writes_the_same_text(
    grown, corpus, held_out, tiny, short_text, tmp_path, monkeypatch
):
    import edgesdk
    from edgesdk_converters import convert as pipeline
    from edgesdk_converters import read_source

    full = grown("byte_level", tiny)
    kept = choose_tokens(full, PruneRequest(corpus=(corpus,), size=640))
    pruned = prune_vocab(full, kept)
    answers = []
    prompts = [" ".join(line.split()[:2]) for line in held_out[:120]]
    for name, checkpoint in (("full", full), ("pruned", pruned)):
        monkeypatch.setattr(read_source, "open_checkpoint", lambda source, revision=None, c=checkpoint: c)
        options = pipeline.ConvertOptions(
            targets=("litert", "onnx", "onnx-step"),
            recipes=("f32", "w8", "w4b32"),
            context=64,
            allow_parity_miss=True,
            calibration=short_text,
        )
        folder = pipeline.convert("given", tmp_path / name, options)
        model = edgesdk.load(folder, variant="litert-f32")
        answers.append([model.generate(p, max_tokens=1, temperature=0).tokens for p in prompts])
        for variant in model.bundle.manifest.variants:
            if variant.recipe == "f32":
                assert variant.parity.top1_agreement > 0.999
    assert model.bundle.manifest.decoder.vocab_size == 640
    engine, covered = load_engine(full.tokenizer.tokenizer_json), 0
    for prompt, before, after in zip(prompts, *answers, strict=True):
        if set(engine.encode(prompt, add_special_tokens=False).ids) | set(before) <= set(kept.old_ids):
            covered += 1
            assert [kept.old_ids[i] for i in after] == list(before)
    assert covered >= 10
