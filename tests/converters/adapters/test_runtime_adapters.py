"""Adapters at run time: what PEFT computes and what merging gives, on every architecture, row by row."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgesdk.bundle.adapter_record import gates_of
from edgesdk.bundle.reader import open_bundle
from edgesdk.engine.engine import Engine
from edgesdk.errors import BundleError, CheckpointError, DeviceError, SnapshotError, UnsupportedOption
from edgesdk.load_model import load
from edgesdk_converters.adapters.adapter import AdapterRequest, parse_named_adapter
from edgesdk_converters.adapters.merge_adapter import replaced_tensors
from edgesdk_converters.adapters.peft_adapter import read_peft_adapter
from edgesdk_converters.adapters.runtime_adapters import read_runtime_adapters
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.targets import find_targets
from edgesdk_converters.transforms.add_low_rank import add_low_rank
from tests.converters.adapters.conftest import ADAPTERS, NAMES, TINY, base_of, random_tensors, reference
from tests.converters.adapters.test_merge_adapter import as_gguf, assert_close
from tests.data.tiny_gguf import write_tiny_gguf

TEXT = [3, 41, 7, 19, 88, 5, 60, 12, 33, 9, 71]
GREEDY = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True}
TARGETS = {"litert": "litert", "onnx-step": "onnxruntime-step"}


def can_run(name):
    adapter = read_peft_adapter(ADAPTERS / name)
    table = any("embed" in module for module in adapter.low_rank)
    return not (replaced_tensors(adapter) or adapter.added or table)


RUNS = [name for name in NAMES if can_run(name)]


def test_some_of_every_kind_run():
    assert {"llama-patterns", "phi3-fused", "head", "features"} == set(RUNS)


def program_of(base, *adapters):
    checkpoint = open_checkpoint(str(base))
    beside = read_runtime_adapters(
        checkpoint, [AdapterRequest(path, name=f"a{i}") for i, path in enumerate(adapters)]
    )
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    return add_low_rank(program, beside.terms, len(beside.records))


def logits_of(program, sequences, *gates):
    for sequence in sequences:
        inputs = sequence_inputs(program, [np.asarray(sequence, np.int32)])
        inputs["gates"][:] = gates
        yield evaluate(program.graph, program.weights, inputs)["logits"]


@pytest.mark.parametrize("name", RUNS)
def test_a_gate_of_one_is_what_peft_computes(name):
    sequences, expected = reference(name)
    assert_close(logits_of(program_of(base_of(name), ADAPTERS / name), sequences, 1), expected)


@pytest.mark.parametrize("name", [name for name in RUNS if name != "features"])
def test_an_adapter_of_peft_runs_with_a_gguf_file(name, tmp_path):
    base = write_tiny_gguf(tmp_path / "base.gguf", base_of(name).rsplit("/", 1)[-1])
    sequences, expected = reference(name)
    assert_close(logits_of(program_of(base, ADAPTERS / name), sequences, 1), expected)


def test_an_adapter_in_gguf_is_the_same(tmp_path, write_adapter):
    folder = write_adapter()
    config = json.loads((TINY / "llama" / "config.json").read_text())
    file = as_gguf(folder, tmp_path / "lora.gguf", config, 6.0)
    sequences, _ = reference("llama-patterns")
    both = program_of(TINY / "llama", folder, file)
    assert_close(logits_of(both, sequences, 0, 1), list(logits_of(both, sequences, 1, 0)))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RUNS])
def test_what_can_only_be_merged_is_refused_by_name(name):
    with pytest.raises(CheckpointError, match="merge it with --merge-adapter") as error:
        program_of(base_of(name), ADAPTERS / name)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two adapters beside the tiny llama, and each merged into it, for both targets."""
    root = tmp_path_factory.mktemp("adapters")
    first, second = ADAPTERS / "llama-patterns", root / "second"
    second.mkdir()
    stored = open_checkpoint(str(TINY / "llama")).tensors
    places = [
        f"model.layers.{i}.{part}" for i in range(2) for part in ("self_attn.k_proj", "self_attn.o_proj")
    ]
    places += [f"model.layers.{i}.mlp.down_proj" for i in range(2)]
    tensors = random_tensors({place: stored.shape(f"{place}.weight") for place in places}, rank=3, seed=4)
    save_file(tensors, second / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "r": 3,
        "lora_alpha": 6,
        "target_modules": ["k_proj", "o_proj", "down_proj"],
    }
    (second / "adapter_config.json").write_text(json.dumps(settings))
    options = {"targets": tuple(TARGETS), "recipes": ("f32",), "context": 64, "prove": False}
    made = {}
    for name, given in both_and_merged(first, second).items():
        convert(str(TINY / "llama"), root / "bundles" / name, ConvertOptions(**options, **given))
        made[name] = root / "bundles" / name
    return made


CHOICES = {
    "none": None,
    "first": "first",
    "second": {"second": 1.0},
    "half": {"first": 0.5, "second": -0.5},
}
"""What is asked of the bundle with both, by the bundle with the same merged."""


def both_and_merged(first, second):
    """How a bundle with both adapters is written, and one for each of `CHOICES`."""
    return {
        "both": {"adapters": (f"first={first}", f"second={second}:2")},
        "first": {"merge_adapters": (str(first),)},
        "second": {"merge_adapters": (f"{second}:2",)},
        "half": {"merge_adapters": (f"{second}:-1", f"{first}:0.5")},
        "none": {},
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CHOICES)
def test_at_run_time_is_merged(bundles, name, target):
    backend = TARGETS[target]
    with load(bundles[name], backend=backend) as merged_, load(bundles["both"], backend=backend) as model:
        expected = merged_.score(TEXT)
        found = model.score(TEXT, adapter=CHOICES[name])
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
        answer = model.generate(TEXT, adapter=CHOICES[name], **GREEDY)
        assert answer.tokens == merged_.generate(TEXT, **GREEDY).tokens


OTHERS = {"litert-static": 1e-4, "openvino": 1e-4, "coreml": 1e-4, "onnx-npu": 5e-3}
"""Further targets, with what their numbers may differ by: float16 on the way to an NPU."""


@pytest.mark.parametrize("name", OTHERS)
def test_every_target_with_gates_gives_what_merging_gives(name, tmp_path):
    if name == "coreml":
        pytest.importorskip("coremltools", reason="needs the extra 'coreml'")
    (target,) = find_targets([name])
    adapter = str(ADAPTERS / "llama-patterns")
    options = {"targets": (name,), "recipes": ("f32",), "context": 64, "prove": False}
    convert(str(TINY / "llama"), tmp_path / "beside", ConvertOptions(adapters=(adapter,), **options))
    convert(str(TINY / "llama"), tmp_path / "merged", ConvertOptions(merge_adapters=(adapter,), **options))
    with load(tmp_path / "merged", backend=target.proof_backend) as model:
        expected = model.score(TEXT)
    with load(tmp_path / "beside", backend=target.proof_backend) as model:
        found = model.score(TEXT, adapter="llama-patterns")
        assert model.receipt.adapters == ("llama-patterns",)
    assert np.abs(found - expected).max() < OTHERS[name] * np.abs(expected).max()


def test_onnx_steps_store_no_zeros_between_products(bundles):
    """Beside the adapters' own bytes only zeros that all layers share; LiteRT: the test on the real model."""
    size = {}
    for name in ("none", "both"):
        files = open_bundle(bundles[name]).manifest.files.items()
        size[name] = sum(f.size_bytes for path, f in files if path.endswith(".data"))
    own = sum(record.size_bytes for record in open_bundle(bundles["both"]).manifest.adapters)
    assert own <= size["both"] - size["none"] < 1.25 * own


@pytest.mark.parametrize("target", TARGETS)
def test_adapters_change_what_is_written(bundles, target):
    with load(bundles["both"], backend=TARGETS[target]) as model:
        logits = [model.score(TEXT, adapter=choice) for choice in CHOICES.values()]
    for i, one in enumerate(logits):
        for other in logits[:i]:
            assert np.abs(one - other).max() > 0.01 * np.abs(other).max()


@pytest.mark.parametrize("target", TARGETS)
def test_each_row_of_a_batch_has_its_own(bundles, target):
    texts = [TEXT, TEXT[:4], [*TEXT[:7], 2, 2]]
    asked = [(text, choice) for text in texts for choice in CHOICES.values()]
    with Engine(bundles["both"], backend=TARGETS[target], check_steps=True) as engine:
        alone = [engine.model.generate(text, adapter=choice, **GREEDY).tokens for text, choice in asked]
        for _ in range(2):  # the second time prefixes are found
            running = [engine.submit(text, adapter=choice, **GREEDY) for text, choice in asked]
            assert [each.result().tokens for each in running] == alone
        assert engine.metrics.cache_hits >= len(asked)
    assert len(set(alone)) > len(texts)


def test_prefixes_sessions_and_snapshots_belong_to_an_adapter(bundles, tmp_path):
    with Engine(bundles["both"], backend="litert", check_steps=True) as engine:
        expected = {
            name: engine.generate(TEXT, adapter=choice, **GREEDY).tokens for name, choice in CHOICES.items()
        }
        before = engine.metrics.cached_tokens
        assert engine.generate(TEXT, adapter={"first": 0.25}, **GREEDY).tokens
        assert engine.metrics.cached_tokens == before
        for name, choice in CHOICES.items():
            with engine.session(adapter=choice) as session:
                session.append(TEXT[:5])
                with session.fork() as copy:
                    assert copy.generate(TEXT[5:], **GREEDY).tokens == expected[name]
                assert session.generate(TEXT[5:], **GREEDY).tokens == expected[name]
                session.rewind(6)
                session.save(tmp_path / name)
        for name, choice in CHOICES.items():
            with engine.load_session(tmp_path / name, adapter=choice) as session:
                assert session.generate(TEXT[6:], **GREEDY).tokens == expected[name]
            with pytest.raises(SnapshotError, match="another model, recipe or adapter"):
                engine.load_session(tmp_path / name, adapter={"first": 0.25})
        with engine.session(adapter="first") as session:
            session.append(TEXT)
            with pytest.raises(UnsupportedOption, match="open a session with this one"):
                session.generate(TEXT, adapter="second")
            assert session.generate(adapter="first", **GREEDY).tokens == expected["first"]


def test_drafts_are_judged_by_the_adapted_model(bundles):
    text = TEXT * 3
    with (
        load(bundles["both"], backend="litert") as plain,
        load(bundles["both"], backend="litert", draft="lookup") as drafting,
    ):
        for choice in CHOICES.values():
            options = {**GREEDY, "max_tokens": 20, "adapter": choice}
            assert drafting.generate(text, **options).tokens == plain.generate(text, **options).tokens


def test_the_manifest_says_what_there_is(bundles):
    manifest = open_bundle(bundles["both"]).manifest
    first, second = manifest.adapters
    assert (first.name, first.gate, first.scale) == ("first", 0, 1.0)
    assert (second.name, second.gate, second.rank, second.products, second.scale) == ("second", 1, 3, 6, 2.0)
    assert len(second.sha256) == 64
    with_gates = {variant.name: variant.numbers for variant in manifest.variants}
    plain = open_bundle(bundles["none"]).manifest
    assert not plain.adapters
    for variant in plain.variants:
        assert variant.numbers != with_gates[variant.name]


@pytest.mark.parametrize("recipe", ["w8", "w8-exact", "w4b32-round", "source"])
def test_the_weights_are_those_of_the_model_without(recipe, write_adapter, tmp_path):
    """Calibrated, scaled, rotated or kept in blocks: what is added beside them changes none of them."""
    base = write_tiny_gguf(tmp_path / "base.gguf", "llama")
    options = {"targets": ("litert",), "recipes": (recipe,), "context": 64, "prove": False}
    logits = []
    for name, adapters in (("plain", ()), ("adapted", (f"style={write_adapter()}",))):
        convert(str(base), tmp_path / name, ConvertOptions(adapters=adapters, **options))
        with load(tmp_path / name, backend="litert") as model:
            logits.append(model.score(TEXT))
            if adapters:
                changed = model.score(TEXT, adapter="style")
    plain, adapted = (open_bundle(tmp_path / name).manifest.variants[0] for name in ("plain", "adapted"))
    assert plain.weights == tuple(record for record in adapted.weights if ".lora_" not in record.name)
    assert np.array_equal(*logits)
    assert np.abs(changed - logits[0]).max() > 0.01 * np.abs(logits[0]).max()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("third", "no adapter 'third'; there is first, second"),
        ({"first": float("nan")}, "factor of adapter first is nan"),
        ({"first": "1"}, "factor of adapter first is '1'"),
        ({"first": True}, "factor of adapter first is True"),
        ({"first": 1e9}, "expected a number"),
        ({"first": 10**400}, "expected a number"),
        (7, "adapter is 7, expected a name"),
        (["first"], "expected a name, or a dict"),
    ],
)
def test_adapters_that_there_are_not(bundles, asked, found):
    records = open_bundle(bundles["both"]).manifest.adapters
    with pytest.raises(UnsupportedOption, match=found) as error:
        gates_of(records, asked)
    assert "\n" not in str(error.value)


def test_a_manifest_cannot_ask_for_gates_that_no_file_has(bundles, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(bundles["both"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["adapters"][1]["gate"] = 9
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with load(folder, backend="litert") as model:
        with pytest.raises(DeviceError, match="10 adapters are to be run by a file with 2"):
            model.generate(TEXT, adapter="second", **GREEDY)
        assert model.generate(TEXT, adapter="first", **GREEDY).tokens
    for change, found in (
        ({"gate": 0}, "two adapters have the gate 0"),
        ({"name": "first"}, "two adapters have the name 'first'"),
        ({"name": "../x"}, "names no adapter"),
        ({"name": "latest"}, "names no adapter"),  # a server's MODEL:latest is the model itself
        ({"gate": 64}, "expected 0 to 63"),
        ({"rank": 0}, "a rank, products, bytes or a scale"),
        ({"scale": "big"}, "scale"),
        ({"other": 1}, "other"),
    ):
        manifest["adapters"][1] = {**manifest["adapters"][1], "gate": 1, "name": "second", **change}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match=found) as error:
            open_bundle(folder)
        assert "\n" not in str(error.value)
        manifest["adapters"][1] = {"rank": 3, "scale": 1.0, "products": 6, "size_bytes": 9, "sha256": "0"}
    stack = {"name": "main", "inputs": [{"name": "gates", "dims": ["T"]}]}
    manifest["adapters"], manifest["variants"][0]["stacks"] = [], [stack]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="'gates' is float32"):
        open_bundle(folder)


def test_gates_of_nothing_are_none(bundles):
    records = open_bundle(bundles["both"]).manifest.adapters
    assert gates_of(records, None) == gates_of(records, {}) == gates_of(records, {"first": 0}) == ()
    assert gates_of(records, "second") == (0.0, 1.0)
    with pytest.raises(UnsupportedOption, match="there is none; convert the model with --adapter"):
        gates_of((), "first")


def test_names_and_scales_are_read(write_adapter):
    folder = write_adapter()
    assert parse_named_adapter(str(folder)) == AdapterRequest(folder)
    assert parse_named_adapter(f"style={folder}:0.5") == AdapterRequest(folder, 0.5, "style")
    for text, found in (
        (f"a b={folder}", "names an adapter 'a b'"),
        (f"latest={folder}", "names an adapter 'latest'.* not latest"),
        ("style=nowhere", "--adapter names 'nowhere'"),
        (f"style={folder}:0", "--adapter gives"),
    ):
        with pytest.raises(UnsupportedOption, match=found):
            parse_named_adapter(text)


def test_bad_adapters_are_one_line(write_adapter, tmp_path):
    checkpoint = open_checkpoint(str(TINY / "llama"))
    folder = write_adapter()
    twice = [AdapterRequest(folder), AdapterRequest(folder)]
    with pytest.raises(UnsupportedOption, match="two adapters the name adapter; put a name before"):
        read_runtime_adapters(checkpoint, twice)
    broken = random_tensors({"model.layers.0.self_attn.q_proj": (64, 64)})
    next(iter(broken.values()))[0, 0] = np.nan
    nan = write_adapter(broken, "nan", target_modules=["model.layers.0.self_attn.q_proj"])
    with pytest.raises(CheckpointError, match="not finite"):
        read_runtime_adapters(checkpoint, [AdapterRequest(nan)])
    other = write_adapter(random_tensors({"model.layers.0.self_attn.q_proj": (48, 48)}), "other")
    with pytest.raises(CheckpointError, match="does not belong to"):
        read_runtime_adapters(checkpoint, [AdapterRequest(other)])
    named = [AdapterRequest(write_adapter(name="my lora"))]
    with pytest.raises(UnsupportedOption, match="names no adapter 'my lora'; put a name before the path"):
        read_runtime_adapters(checkpoint, named)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"targets": ("coreml-state",)}, "--adapter is for the targets litert, .*, found coreml-state"),
        ({"targets": ("litert", "coreml-state")}, "found coreml-state"),
        ({"reshaping": "prune"}, "whole vocabulary"),
        ({"targets": ("litert",), "exits": "2"}, "exits cut them into segments"),
    ],
)
def test_targets_that_cannot_are_named(options, found, write_adapter, tmp_path):
    from edgesdk_converters.reshape import Reshaping

    if "reshaping" in options:
        options = {"targets": ("litert",), "reshaping": Reshaping("language=en,size=100", None, None, None)}
    with pytest.raises(UnsupportedOption, match=found):
        convert(
            str(TINY / "llama"),
            tmp_path / "out",
            ConvertOptions(adapters=(str(write_adapter()),), recipes=("f32",), **options),
        )
    assert not (tmp_path / "out").exists()
