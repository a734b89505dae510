"""A stranger's bundle, whose digests are right: commands and backends refuse it before a runtime."""

import dataclasses
import json
import os
import shutil

import pytest

import edgesdk
from edgesdk.backends.check_variant import check_references, check_variant
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.registry import BACKENDS
from edgesdk.bundle import passed_checks
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.writer import BundleWriter
from edgesdk.compile.compile_bundle import compile_bundle
from edgesdk.errors import BundleError
from edgesdk.evaluation.verify_bundle import verify_bundle

PACKAGE = "variants/mil/model.mlpackage"


@pytest.fixture
def copy(onnx_bundle, tmp_path):
    return shutil.copytree(onnx_bundle.bundle.path, tmp_path / "bundle")


def rewrite(path, edit):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(path), load_external_data=False)
    edit(model)
    path.write_bytes(model.SerializeToString())


def external(model):
    return [tensor for tensor in model.graph.initializer if tensor.external_data]


def to_file(name):
    def edit(model):
        for tensor in external(model):
            next(entry for entry in tensor.external_data if entry.key == "location").value = name

    return edit


def beyond(model):
    next(entry for entry in external(model)[0].external_data if entry.key == "offset").value = "99999999"


def short(model):
    next(entry for entry in external(model)[0].external_data if entry.key == "length").value = "1"


def operator(domain, kind):
    def edit(model):
        node = model.graph.node.add(op_type=kind, domain=domain, name="x")
        node.output.append("never_read")

    return edit


def context(model):
    operator("com.microsoft", "EPContext")(model)
    node = model.graph.node[-1]
    for name, value in (("embed_mode", 0), ("ep_cache_context", b"../outside.bin")):
        attribute = node.attribute.add(name=name)
        if isinstance(value, int):
            attribute.i, attribute.type = value, 2
        else:
            attribute.s, attribute.type = value, 3


def function(model):
    model.functions.add(name="f", domain="mine")


def note(model):
    model.metadata_props.add(key="note", value="x")


EDITS = {
    "unlisted data": to_file("other.data"),
    "data above the folder": to_file("../../secret.txt"),
    "data at an absolute path": to_file("/secret.txt"),
    "data beyond its file": beyond,
    "data of another length": short,
    "an operator of a library": operator("some.library", "Add"),
    "an operator that is not ours": operator("", "Loop"),
    "a compiled part": context,
    "a function": function,
    "a note for the session": note,
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_models_that_name_more_than_the_manifest_lists(copy, reseal, edit, tmp_path):
    (tmp_path / "secret.txt").write_text("x" * 100_000)
    (copy / "variants/resident/other.data").write_bytes(b"x" * 100_000)
    for name in ("variants/resident/model.onnx", "variants/step/t1_s48.onnx"):
        rewrite(copy / name, edit)
    bundle = open_bundle(reseal(copy))
    for variant in bundle.manifest.variants:
        for check in (check_references, check_variant):
            with pytest.raises(BundleError, match="it was not opened"):
                check(bundle, variant)
    with pytest.raises(BundleError, match="it was not opened"):
        edgesdk.load(copy)


CONFIGURATIONS = {
    "a key at the top": lambda config: config.update(note=1),
    "a key of the session": lambda config: config["model"]["decoder"]["session_options"].update(note="x"),
    "another provider": lambda config: config["model"]["decoder"]["session_options"].update(
        provider_options=[{"note": {}}]
    ),
    "another file": lambda config: config["model"]["decoder"].update(filename="other.onnx"),
    "another part": lambda config: config["model"].update(encoder={}),
    "another type": lambda config: config["model"].update(type="note"),
    "a list": lambda config: config.update(search=[]),
}


@pytest.mark.parametrize("edit", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_configurations_that_say_more_than_we_would_write(copy, reseal, edit):
    path = copy / "variants/resident/genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    edit(config)
    path.write_text(json.dumps(config), encoding="utf-8")
    bundle = open_bundle(reseal(copy))
    for check in (check_references, check_variant):
        with pytest.raises(BundleError, match=r"genai_config\.json"):
            check(bundle, bundle.variant("resident"))


def test_what_is_written_passes_and_is_remembered(copy, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    bundle = open_bundle(copy)
    for variant in bundle.manifest.variants:
        check_variant(bundle, variant)
    assert len(list((tmp_path / "cache/checked").iterdir())) == len(bundle.manifest.variants)
    for variant in bundle.manifest.variants:
        check_variant(bundle, variant)
    changed = dataclasses.replace(bundle.variant("resident"), context=32)
    check_variant(bundle, changed)
    assert len(list((tmp_path / "cache/checked").iterdir())) == len(bundle.manifest.variants) + 1


def markers(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache/checked").iterdir())


def test_other_variants_of_a_bundle_do_not_matter(copy, reseal, monkeypatch, tmp_path):
    """A compiled variant is added under the name of its source with more at the end."""
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    bundle = open_bundle(copy)
    check_variant(bundle, bundle.variant("step"))
    before = markers(tmp_path)
    shutil.copytree(copy / "variants/step", copy / "variants/step-more")
    listed = [p.relative_to(copy).as_posix() for p in (copy / "variants/step-more").iterdir()]
    bundle = open_bundle(reseal(reseal(copy, also=listed)))
    check_variant(bundle, bundle.variant("step"))
    assert markers(tmp_path) == before


def test_what_was_opened_last_is_remembered(copy, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(passed_checks, "MOST_RECORDS", 3)
    bundle = open_bundle(copy)
    variant = bundle.variant("resident")
    check_variant(bundle, variant)
    (first,) = markers(tmp_path)
    for number in range(2):
        (tmp_path / f"cache/checked/{number}").touch()
    for path in (tmp_path / "cache/checked").iterdir():
        os.utime(path, (1000, 1000))
    check_variant(bundle, variant)  # it was used just now
    check_variant(bundle, dataclasses.replace(variant, context=32))
    assert len(markers(tmp_path)) == 3
    assert first in markers(tmp_path)


def test_of_a_draft_nothing_is_remembered(copy, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    manifest = open_bundle(copy).manifest
    with BundleWriter(tmp_path / "new") as writer:
        for name in manifest.files:
            shutil.copyfile(copy / name, writer.path(name))
        bundle = open_bundle(writer.preview(manifest))
        check_variant(bundle, bundle.variant("resident"))
    assert not (tmp_path / "cache/checked").exists()


def test_a_user_without_a_cache_folder_opens_bundles_all_the_same(copy, monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "this user has no home folder")

    monkeypatch.setattr(passed_checks, "cache_folder", nowhere)
    bundle = open_bundle(copy)
    check_variant(bundle, bundle.variant("resident"))


def test_files_that_are_not_listed_are_neither_read_nor_in_the_way(copy, onnx_bundle):
    (copy / "variants/resident/libx.so").write_bytes(b"")
    if os.name != "nt":
        os.mkfifo(copy / "variants/resident/other.onnx")
    with edgesdk.load(copy, backend="onnxruntime") as model:
        assert len(model.new_sequence().extend(onnx_bundle.tokens)) == 64


@pytest.fixture
def bad_files(copy, reseal):
    """A bundle with a variant of every format, each with a harmless fault of its own."""
    for path in (copy / "variants").rglob("*.onnx"):
        rewrite(path, to_file("other.data"))
    package = copy / PACKAGE
    for name, text in (
        ("Manifest.json", json.dumps({"itemInfoEntries": {"x": {"path": "../../../secret"}}})),
        ("Data/com.apple.CoreML/model.mlmodel", ""),
        ("Data/com.apple.CoreML/weights/weight.bin", ""),
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    (copy / "variants/lite").mkdir()
    (copy / "variants/lite/model.tflite").write_bytes(b"\x08\0\0\0TFL3" + b"\0" * 64)
    listed = [p.relative_to(copy).as_posix() for p in (copy / "variants").rglob("*") if p.is_file()]

    def edit(document):
        step = document["variants"][1]
        mil = {"entry": f"{PACKAGE}/Manifest.json"}
        document["variants"] += [
            {**step, "name": "compiled", "format": "onnx-context"},
            {**step, "name": "mil", "format": "coreml", **mil},
            {**step, "name": "mil-state", "format": "coreml-state", **mil},
            {**step, "name": "lite", "format": "litert", "entry": "variants/lite/model.tflite"},
        ]

    return open_bundle(reseal(reseal(copy, also=listed, edit=edit)))


@pytest.mark.parametrize("backend", BACKENDS, ids=[backend.name for backend in BACKENDS])
def test_every_backend_checks_before_it_asks_for_its_package(backend, bad_files):
    variant = next(v for v in bad_files.manifest.variants if v.format == backend.format)
    with pytest.raises(BundleError):
        backend.open(OpenRequest(bad_files, variant, 1))


def test_every_command_refuses(npu_bundle, tmp_path, reseal, edgesdk_command):
    copy = shutil.copytree(npu_bundle, tmp_path / "bundle")
    for path in (copy / "variants").rglob("*.onnx"):
        rewrite(path, to_file("/secret.data"))
    reseal(copy)
    for arguments in (("inspect", copy), ("run", copy, "x"), ("compile", copy, "--soc", "sm8750")):
        done = edgesdk_command(*arguments)
        assert done.code == 1
        assert "'/secret.data', which the manifest does not list beside it" in done.error
    with pytest.raises(BundleError, match="manifest does not list"):
        compile_bundle(copy, "sm8750")


LISTED = {
    "a native library": ["variants/step/libx.so"],
    "an absolute path": ["/etc/hostname"],
    "a path above": ["../x.onnx"],
}


@pytest.mark.parametrize("also", LISTED.values(), ids=LISTED)
def test_every_command_refuses_what_no_bundle_lists(onnx_bundle, tmp_path, reseal, edgesdk_command, also):
    copy = shutil.copytree(onnx_bundle.bundle.path, tmp_path / "bundle")
    (copy / "variants/step/libx.so").write_bytes(b"")
    reseal(copy, also=also)
    for arguments in (
        ("inspect", copy),
        ("verify", copy),
        ("run", copy, "x"),
        ("compile", copy, "--soc", "sm8750"),
    ):
        done = edgesdk_command(*arguments)
        assert done.code == 1
        assert "bundle holds" in done.error or "bundle may hold" in done.error
    for opens in (edgesdk.load, verify_bundle):
        with pytest.raises(BundleError):
            opens(copy)


def test_verify_refuses_what_a_model_names(tmp_path, reseal, request):
    pytest.importorskip("onnx")
    from edgesdk_converters.convert import ConvertOptions, convert

    source = request.config.rootpath / "tests/data/tiny/llama"
    options = ConvertOptions(targets=("onnx",), recipes=("f32",), context=64)
    copy = convert(str(source), tmp_path / "bundle", options)
    rewrite(copy / "variants/onnx-f32/model.onnx", to_file("/secret.data"))
    with pytest.raises(BundleError, match="manifest does not list"):
        verify_bundle(reseal(copy))
