"""Fewer tokens and fewer layers together: every tiny checkpoint, recipe and target converts and verifies."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import UnsupportedOption
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.prune_request import parse_prune_option

TINY = Path(__file__).parent.parent / "data" / "tiny"
# Gemma 4's last layers read the cells of earlier ones, which cannot be skipped (test_skip_layers).
# lfm2 here has one block that attends, which has to stay.
MODELS = sorted(
    p.parent.name for p in TINY.glob("*/config.json") if not p.parent.name.startswith(("gemma4", "lfm2"))
)
TARGETS = ("litert", "onnx", "onnx-step")


@pytest.fixture
def tokens(tmp_path):
    """A request for the tokens that have to stay and one more."""
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(["a"]))
    return f"tokens={path}"


def check(folder, source, reshaping, recipes, targets=TARGETS, **more):
    """Converts and verifies; float32 variants must pass, the others must run."""
    options = ConvertOptions(
        targets, recipes, context=64, allow_parity_miss=True, reshaping=reshaping, **more
    )
    bundle = convert(str(TINY / source), folder, options)
    report = verify_bundle(bundle)
    assert len(report.variants) == len(recipes) * len(targets)
    for found in report.variants:
        assert found.status == "passed" or (found.status == "failed" and "f32" not in found.variant), found
        if "f32" in found.variant:
            assert found.recorded.top1_agreement > 0.999
    return open_bundle(bundle).manifest


@pytest.mark.parametrize("name", MODELS)
def test_every_checkpoint_loses_both(name, tokens, tmp_path):
    whole = json.loads((TINY / name / "config.json").read_text())
    whole = whole.get("text_config", whole)
    manifest = check(
        tmp_path / "b", name, Reshaping(tokens, skip_layers="0.mlp,1.attention"), ("f32", "w8", "w4b32-round")
    )
    spec = manifest.decoder
    assert spec.vocab_size == manifest.vocabulary.tokens < whole["vocab_size"]
    assert len(spec.layers) == whole["num_hidden_layers"] - 1
    against = manifest.variants[0].parity.against
    assert against == (
        f"the source, with {spec.vocab_size} of {manifest.vocabulary.source_tokens} tokens, "
        "without 0.mlp,1.attention"
    )


@pytest.mark.parametrize(
    ("pruned", "layers"),
    [
        (pruned, layers)
        for pruned, layers in itertools.product((False, True), range(4))
        if pruned or layers  # the rest is any conversion
    ],
)
def test_every_combination_goes_to_every_target(pruned, layers, tokens, short_text, tmp_path):
    how = (
        {},
        {"skip_layers": "1"},
        {"skip_layers": "1", "repair_layers": "linear"},
        {"layer_budget": "layers=1"},
    )
    reshaping = Reshaping(tokens if pruned else None, **how[layers])
    low = "w4b32" if pruned and layers == 1 else "w4b32-round"  # one calibration is enough
    manifest = check(tmp_path / "b", "llama", reshaping, ("f32", "w8", low), calibration=short_text)
    assert (manifest.vocabulary is not None) == pruned
    assert len(manifest.decoder.layers) == (1 if layers else 2)


def test_pruning_and_skipping_do_not_depend_on_each_other(tokens, tmp_path):
    """Kept rows of the shallow model's logits are the same bits with and without pruning."""
    kept = choose_tokens(open_checkpoint(str(TINY / "llama-untied-bias")), parse_prune_option(tokens))
    old_ids, new = kept.rows.astype(np.int32), np.arange(20, 50, dtype=np.int32)
    found = []
    for reshaping in (Reshaping(None, "0.mlp"), Reshaping(tokens, "0.mlp")):
        manifest = check(
            tmp_path / f"b{len(found)}", "llama-untied-bias", reshaping, ("f32",), targets=("litert",)
        )
        bundle = tmp_path / f"b{len(found)}"
        with edgesdk.load(bundle, threads=1) as model:
            found.append(model.score(old_ids[new] if manifest.vocabulary is None else new))
    np.testing.assert_allclose(found[1], found[0][:, old_ids], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("reshaping", "match"),
    [
        (Reshaping(skip_layers="1", layer_budget="layers=1"), "give skip-layers or layer-budget"),
        (Reshaping(repair_layers="linear"), "nothing to repair"),
        (Reshaping("language=english!"), "is no code"),
        (Reshaping("language=en,size=3"), "size"),
        (Reshaping(layer_budget="perplexity=0.5"), "ratio above 1"),
        (Reshaping(layer_budget="layers=2"), "nothing would be removed"),
        (Reshaping(skip_layers="0-1"), "leaves no attention"),
        (Reshaping(skip_layers="9"), "cannot be skipped"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(reshaping, match, tmp_path):
    with pytest.raises((UnsupportedOption, edgesdk.EdgeError), match=match):
        convert(str(TINY / "llama"), tmp_path / "b", ConvertOptions(("litert",), reshaping=reshaping))
    assert not (tmp_path / "b").exists()
