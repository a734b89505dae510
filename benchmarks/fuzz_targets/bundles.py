"""Bundles from strangers: manifests, names, and the small files beside a model."""

from __future__ import annotations

import json
import random
import shutil
from functools import cache
from pathlib import Path

from edgesdk.backends.coreml.check_package import check_package
from edgesdk.backends.genai_folder import check_genai_config
from edgesdk.bundle.file_kinds import check_kind
from edgesdk.bundle.id_map import IdMap, read_id_map
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.evaluation.probe import read_probe
from fuzz_targets.damage import TINY, damaged, odd_json, scratch


@cache
def tiny_bundle() -> Bundle:
    """A bundle of a tiny checkpoint, converted once per process."""
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(targets=("litert-static", "onnx"), recipes=("f32",), context=64)
    return open_bundle(convert(str(TINY / "llama"), scratch() / "tiny", options))


@cache
def _copy(name: str) -> Path:
    """A folder with a bundle's manifest alone: opening one reads no other file."""
    folder = scratch() / name
    folder.mkdir()
    shutil.copyfile(tiny_bundle().path / "manifest.json", folder / "manifest.json")
    return folder


@cache
def _document() -> dict[str, object]:
    return json.loads((tiny_bundle().path / "manifest.json").read_text(encoding="utf-8"))


def _opens(folder: Path) -> None:
    """What opens is whole: every variant starts from a listed file of an allowed kind."""
    bundle = open_bundle(folder)
    for variant in bundle.manifest.variants:
        assert variant.entry in bundle.manifest.files
        assert not Path(variant.entry).is_absolute()
    assert all(".." not in name.split("/") for name in bundle.manifest.files)


def manifest_bytes(draw: random.Random) -> None:
    """A manifest with damaged bytes."""
    folder = _copy("bytes")
    text = (tiny_bundle().path / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(damaged(draw, text))
    _opens(folder)


def manifest_values(draw: random.Random) -> None:
    """A manifest with values of other kinds."""
    folder = _copy("values")
    text = json.dumps(odd_json(draw, _document()), ensure_ascii=True)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    _opens(folder)


_PARTS = (
    *("variants/w8/", "variants/", "model", "tokenizer.json", "parity", ".npz", ".tflite", ".onnx", ".data"),
    *(".so", "/", "..", ".", "\\", "con", "\0", "é", " ", "a"),
)


def names(draw: random.Random) -> None:
    """File names made of parts that matter."""
    name = "".join(draw.choice(_PARTS) for _ in range(draw.randint(1, 4)))
    found = check_kind(name)
    assert found == name
    assert found[0] != "/"
    assert not {"..", "."} & set(found.split("/"))


@cache
def _genai() -> tuple[Bundle, Path, dict[str, object]]:
    """A copy of a resident variant, with its configuration."""
    source = tiny_bundle()
    folder = Path(shutil.copytree(source.path, scratch() / "genai"))
    path = folder / "variants" / "onnx-f32" / "genai_config.json"
    return open_bundle(folder), path, json.loads(path.read_text(encoding="utf-8"))


def genai_configuration(draw: random.Random) -> None:
    """A configuration of onnxruntime-genai with odd values: taken only if it says nothing but ours."""
    bundle, path, config = _genai()
    document = odd_json(draw, config)
    path.write_text(json.dumps(document), encoding="utf-8")
    check_genai_config(bundle, bundle.variant("onnx-f32"))
    assert set(document) <= set(config)
    model = document.get("model", {})
    assert set(model) <= set(config["model"])
    decoder = model.get("decoder", {})
    assert set(decoder) <= set(config["model"]["decoder"])
    assert decoder.get("filename", "model.onnx") == "model.onnx"


def core_ml_contents(draw: random.Random) -> None:
    """The table of contents of a Core ML package."""
    entries = {
        "A": {
            "author": "x",
            "description": "x",
            "name": "model.mlmodel",
            "path": "com.apple.CoreML/model.mlmodel",
        },
        "B": {"author": "x", "description": "x", "name": "weights", "path": "com.apple.CoreML/weights"},
    }
    document = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": "A"}
    path = scratch() / "Manifest.json"
    path.write_text(json.dumps(odd_json(draw, document)), encoding="utf-8")
    check_package(path)


def parity_probe(draw: random.Random) -> None:
    """parity.npz with damaged bytes."""
    path = scratch() / "parity.npz"
    path.write_bytes(damaged(draw, (tiny_bundle().path / "parity.npz").read_bytes()))
    read_probe(path, tiny_bundle().manifest.decoder.vocab_size)


def id_map(draw: random.Random) -> None:
    """vocabulary.json with damaged bytes."""
    path = scratch() / "vocabulary.json"
    path.write_bytes(damaged(draw, IdMap(96, tuple(range(0, 90, 3))).to_text().encode()))
    found = read_id_map(path)
    assert all(old >= 0 for old in found.old_ids)


TARGETS = {
    "manifest, bytes": manifest_bytes,
    "manifest, values": manifest_values,
    "file names": names,
    "genai_config.json": genai_configuration,
    "Core ML Manifest.json": core_ml_contents,
    "parity.npz": parity_probe,
    "vocabulary.json": id_map,
}
