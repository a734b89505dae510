"""From checkpoint to answer, for every architecture, on tiny random models."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.backends.registry import BACKENDS as ALL
from edgesdk.bundle.integrity import check_integrity
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import BundleError, CapacityError, EdgeError, EmitError, TransformError, UnsupportedOption
from edgesdk.evaluation.greedy import NEAR_TIE
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.targets import find_targets

TINY = Path(__file__).parent / "data" / "tiny"
MODELS = sorted(p.parent.name for p in TINY.glob("*/config.json"))
BACKENDS = ["litert", "onnxruntime"] + (
    ["onnxruntime_genai"] if importlib.util.find_spec("onnxruntime_genai") else []
)
TARGETS_PROVEN = ("litert", "onnx", "onnx-step")
"""What the checkpoints of `MODELS` are converted to here, but for those that a target refuses."""
# Of the largest logit: float32 with another order of additions.
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=MODELS)
def converted(request, converted_once):
    """A float32 bundle of one architecture, with the program it was made from."""
    source = str(TINY / request.param)
    program = program_of(request.param)
    targets = tuple(name for name in TARGETS_PROVEN if refusal(program, name) is None)
    bundle = converted_once(source, targets=targets, recipes=("f32",), context=64)
    return bundle, program


def program_of(name):
    checkpoint = open_checkpoint(str(TINY / name))
    spec = read_spec(checkpoint.config)
    return Program(spec, build_decoder(spec), weights_for(checkpoint, spec))


def refusal(program, target):
    """Why a target does not take a decoder; None if it does."""
    try:
        find_targets([target])[0].check(program)
    except EmitError as error:
        return str(error)
    return None


def backends_of(bundle, backends):
    """Those that the bundle has a variant for."""
    formats = {variant.format for variant in open_bundle(bundle).manifest.variants}
    return [name for name in backends if next(b for b in ALL if b.name == name).format in formats]


def reference_of(name):
    """Token ids and what transformers computed for them, (T,) and (T, V)."""
    with np.load(TINY / name / "reference.npz") as file:
        count = int(file["lengths"][0])  # the first of its texts
        return file["tokens"][:count].astype(np.int32), file["logits"][:count]


def text_of(program, count=40):
    return np.random.default_rng(11).integers(3, program.spec.vocab_size, count).astype(np.int32)


@pytest.mark.parametrize("backend", [*BACKENDS, "litert-interpreter", "onnxruntime-step"])
def test_every_backend_gives_the_logits_of_transformers(converted, backend, request):
    bundle, _ = converted
    if not backends_of(bundle, [backend]):
        pytest.skip("the target that it opens refuses this architecture, which another test asks for")
    tokens, expected = reference_of(request.node.callspec.params["converted"])
    with edgesdk.load(bundle, backend=backend, strict=True, threads=1) as model:
        assert model.receipt.backend == backend
        found = model.score(tokens)
    assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()


def test_backends_write_the_same_text(converted):
    bundle, program = converted
    prompt = [int(t) for t in text_of(program, 12)]
    answers = {}
    for backend in backends_of(bundle, BACKENDS):
        with edgesdk.load(bundle, backend=backend, strict=True, threads=1) as model:
            done = model.generate(
                prompt, max_tokens=32, temperature=0.0, repetition_penalty=1.0, ignore_eos=True
            )
            answers[backend] = list(done.tokens)
    logits = next(sequence_logits(program, [np.array(prompt + answers["litert"], np.int32)]))
    for backend, answer in answers.items():
        pairs = zip(answer, answers["litert"], strict=True)
        different = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        if different is not None:  # only a near-tie excuses a difference
            best = np.sort(logits[len(prompt) + different - 1])[-2:]
            assert best[1] - best[0] < NEAR_TIE * np.abs(best[1]), f"{backend} differs at {different}"


def test_a_bundle_says_what_it_is(converted):
    bundle, program = converted
    manifest = open_bundle(bundle).manifest
    assert manifest.decoder == program.spec
    taken = [name for name in TARGETS_PROVEN if refusal(program, name) is None]
    assert [v.name for v in manifest.variants] == [f"{name}-f32" for name in taken]
    assert all(v.parity is not None and v.parity.perplexity_ratio < 1.001 for v in manifest.variants)
    for variant in manifest.variants:
        chats = variant.parity.chats
        # Random weights make near-ties, and a template that is long leaves no room for some questions.
        assert chats is None or chats.equal >= 0.97 * chats.questions
    assert manifest.source.files
    for variant in manifest.variants:
        assert [t.name for t in variant.transforms] == ["fold_attention_scale", "fuse_linears"]
    assert check_integrity(open_bundle(bundle), full=True) == "hashed"


def test_a_target_that_cannot_hold_an_architecture_says_so_before_anything_is_calibrated(tmp_path):
    said = []
    options = ConvertOptions(targets=("litert", "onnx"), recipes=("w8",), context=64)
    with pytest.raises(EmitError, match="gemma4 has 4 heads over 2 of 16, 4 heads over 2 of 32, 2 layers"):
        convert(str(TINY / "gemma4"), tmp_path / "b", options, report=lambda p: said.append(p.stage))
    assert "quantising" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_longer_than_the_context_is_refused_before_anything_runs(converted):
    bundle, program = converted
    with (
        edgesdk.load(bundle, backend="litert", threads=1) as model,
        pytest.raises(CapacityError, match="70 tokens, the context holds 64"),
    ):
        model.generate([int(t) for t in text_of(program, 70)])


# Random weights are the worst case of 4 bits; by chance tokens would agree on 0.003 of positions.
@pytest.mark.parametrize(
    ("recipe", "agreement"),
    [("w8", 0.8), ("w8-round", 0.8), ("w8-round-exact", 0.8), ("w4b32", 0.2), ("w4c", 0.2)],
)
def test_every_recipe_converts_and_runs_on_both_runtimes(tmp_path, recipe, agreement):
    options = ConvertOptions(recipes=(recipe,), context=64, allow_parity_miss=True)
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    for variant in open_bundle(bundle).manifest.variants:
        assert variant.parity.top1_agreement > agreement, variant
        done = {record.name: record.settings for record in variant.transforms}
        assert ("exact_activations" in done) == recipe.endswith("-exact")
        if recipe.endswith("-exact"):
            # q_k_v, o, gate_up and down of two layers, and the head.
            assert done["exact_activations"] == {"decode": 9, "few": 9, "prompt": 9, "of": 9}
    for backend in BACKENDS:
        with edgesdk.load(bundle, backend=backend, strict=True, threads=1) as model:
            assert model.receipt.recipe == recipe
            assert model.generate([5, 6, 7], max_tokens=4, ignore_eos=True).new_tokens == 4


def test_each_variant_says_what_was_done_to_it(tmp_path):
    options = ConvertOptions(targets=("litert",), recipes=("w8-round", "f32"), context=64, prove=False)
    manifest = open_bundle(convert(str(TINY / "llama"), tmp_path / "b", options)).manifest
    done = {v.name: [t.name for t in v.transforms] for v in manifest.variants}
    last = ["fold_attention_scale", "fuse_linears"]
    assert done == {"litert-w8-round": ["fold_norms", "rotate_residual", *last], "litert-f32": last}


def test_a_missed_gate_fails_the_conversion_and_leaves_nothing(tmp_path, monkeypatch):
    import dataclasses

    from edgesdk_converters import convert_options

    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    strict = dataclasses.replace(convert_options.find_recipe("w4c"), gate_top1_agreement=1.0)
    monkeypatch.setattr(convert_options, "find_recipe", lambda name: strict)
    options = ConvertOptions(targets=("litert",), recipes=("w4c",), context=64)
    with pytest.raises(EmitError, match=r"top-1 agreement .* is below the recipe's 1\.000") as caught:
        convert(str(TINY / "llama"), tmp_path / "b", options)
    assert "its matrices lose most in layers." in str(caught.value)
    assert "use recipe w4b32" in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []  # nor packed weights


def test_a_bundle_that_is_kept_has_its_weights_packed_already(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=64)
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    assert [path for path in (tmp_path / "cache" / "integrity").glob("*") if path.is_file()] == []
    with edgesdk.load(bundle, threads=1) as model:
        assert model.receipt.weight_cache == "hit"


def test_one_flipped_byte_is_noticed(tmp_path):
    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=64)
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    with edgesdk.load(bundle, threads=1):
        pass
    file = bundle / "variants" / "litert-f32" / "model.tflite"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"model\.tflite"):
        edgesdk.load(bundle, threads=1)


def test_an_interrupted_conversion_leaves_nothing(tmp_path):
    def interrupt(progress):
        if progress.stage == "proving":
            raise KeyboardInterrupt

    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=64)
    with pytest.raises(KeyboardInterrupt):
        convert(str(TINY / "llama"), tmp_path / "b", options, report=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_kept(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious").write_text("x")
    with pytest.raises(EdgeError, match="not a bundle"):
        convert(str(TINY / "llama"), tmp_path / "b")
    assert (tmp_path / "b" / "precious").read_text() == "x"


def test_two_threads_of_one_process_may_each_have_a_model(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=64)
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)

    def answer(_):
        with edgesdk.load(bundle, threads=1) as model:
            return model.generate([5, 6, 7], max_tokens=16, temperature=0.0, ignore_eos=True).tokens

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(answer, range(8)))) == 1


def test_one_bundle_of_everything(tmp_path):
    """Fewer layers, a budget and every target: one bundle, one report for all, and every variant answers."""
    options = ConvertOptions(
        targets=("litert", "onnx", "onnx-step", "coreml"),
        recipes=("w4b32",),
        context=64,
        allow_parity_miss=True,
        reshaping=Reshaping(skip_layers="1.mlp"),
        budget="size_mb=0.035",
    )
    bundle = open_bundle(convert(str(TINY / "qwen2"), tmp_path / "b", options))
    assert [v.recipe for v in bundle.manifest.variants] == ["w4b32-mixed"] * 4
    for variant in bundle.manifest.variants:
        assert variant.parity is not None
        assert variant.calibration is not None
        assert variant.calibration.tokens > 1000
        assert variant.budget is not None
        assert variant.budget.frontier[-1].size_bytes < variant.budget.frontier[0].size_bytes
        bits = {record.bits for record in variant.weights if record.kept == "quantised"}
        assert bits == {4, 8}
        backend = {"coreml": "coreml-interpreter"}.get(variant.format, "auto")
        with edgesdk.load(tmp_path / "b", variant=variant.name, backend=backend, threads=1) as model:
            assert len(model.generate([5, 6, 7], max_tokens=4, ignore_eos=True).tokens) == 4


@pytest.mark.parametrize("recipe", ["w8", "w8-round", "w4b32-round", "f32"])
def test_a_budget_needs_a_calibrated_recipe(recipe, tmp_path):
    options = ConvertOptions(targets=("litert",), recipes=(recipe,), context=64, budget="kl=0.1")
    stages = []
    with pytest.raises(TransformError, match="no calibrated int4 matrices to choose from"):
        convert(str(TINY / "llama"), tmp_path / "b", options, report=stages.append)
    assert list(tmp_path.iterdir()) == []
    assert stages == []  # before the checkpoint is read


@pytest.mark.parametrize("target", ["litert", "litert-static", "onnx-step", "coreml", "coreml-state"])
def test_a_context_that_no_file_can_have_is_refused_first(target, tmp_path):
    stages = []
    options = ConvertOptions(targets=("onnx", target), recipes=("w8",), context=15)
    with pytest.raises(UnsupportedOption, match="context is 15, expected 16 to 131072"):
        convert(str(TINY / "llama"), tmp_path / "b", options, report=stages.append)
    assert stages == []


def test_a_context_beyond_the_checkpoints_is_cut(tmp_path):
    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=1 << 20, prove=False)
    (variant,) = open_bundle(convert(str(TINY / "llama"), tmp_path / "b", options)).manifest.variants
    assert variant.context < 1 << 17


def test_a_calibration_text_that_nothing_uses_is_refused(tmp_path):
    options = ConvertOptions(
        targets=("litert",), recipes=("w8-round",), context=64, calibration=tmp_path / "text"
    )
    with pytest.raises(UnsupportedOption, match="nothing uses it"):
        convert(str(TINY / "llama"), tmp_path / "b", options)


def test_activation_ranges_come_from_the_calibration_text(tmp_path):
    text = tmp_path / "text"
    text.write_text("The sea is wide and the sky is high. " * 300, encoding="utf-8")
    options = ConvertOptions(
        targets=("onnx-npu",), recipes=("w8-round",), context=64, calibration=text, prove=False
    )
    (variant,) = open_bundle(convert(str(TINY / "llama"), tmp_path / "b", options)).manifest.variants
    assert variant.calibration is not None
    assert variant.calibration.name == "text"
    assert variant.calibration.tokens == 1024


def test_calibration_is_recorded_where_it_was_run(tmp_path):
    options = ConvertOptions(
        targets=("litert", "onnx"), recipes=("source",), context=64, allow_parity_miss=True
    )
    variants = open_bundle(convert(str(TINY / "llama"), tmp_path / "b", options)).manifest.variants
    assert [v.calibration is not None for v in variants] == [True, False]  # ONNX separates no outliers


def test_a_smaller_table_beside_kept_blocks_runs_everywhere(tmp_path):
    options = ConvertOptions(
        targets=("litert", "onnx", "onnx-step"), recipes=("source-h4",), context=64, allow_parity_miss=True
    )
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    for variant in open_bundle(bundle).manifest.variants:
        tables = [record for record in variant.weights if record.name in ("embed", "head")]
        assert {(record.bits, record.block) for record in tables} == {(4, 32)}
        assert variant.calibration is not None
        assert variant.parity.top1_agreement > 0.2, variant
        with edgesdk.load(bundle, variant=variant.name, threads=1) as model:
            assert model.generate([5, 6, 7], max_tokens=4, ignore_eos=True).new_tokens == 4


def test_products_are_raised_and_the_manifest_says_which(tmp_path):
    options = ConvertOptions(
        targets=("litert", "onnx"), recipes=("w4b32-round",), context=64, onnx_accuracy=0.99999, prove=False
    )
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    litert, onnx = open_bundle(bundle).manifest.variants
    assert litert.accuracy is None
    assert litert.calibration is None
    assert onnx.accuracy is not None
    assert onnx.accuracy.top1_before < 0.99999 <= onnx.accuracy.top1_after
    assert set(onnx.accuracy.raised) <= {record.name for record in onnx.weights}
    assert onnx.calibration is not None
    with edgesdk.load(bundle, variant=onnx.name, threads=1) as model:
        assert model.generate([5, 6, 7], max_tokens=4, ignore_eos=True).new_tokens == 4


@pytest.mark.parametrize(
    ("targets", "recipes", "wish", "message"),
    [
        (("litert",), ("w4b32-round",), 0.98, "for the target onnx, found litert"),
        (("onnx",), ("w4b32-round",), 1.0, "above 0 and below 1"),
        (("onnx",), ("f32", "f16"), 0.98, "for recipes that compute with int8, found f32, f16"),
    ],
)
def test_an_accuracy_that_nothing_can_heed_is_refused(tmp_path, targets, recipes, wish, message):
    options = ConvertOptions(targets=targets, recipes=recipes, onnx_accuracy=wish)
    with pytest.raises(UnsupportedOption, match=message):
        convert(str(TINY / "llama"), tmp_path / "b", options)
