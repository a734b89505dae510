"""The folder that onnxruntime-genai sees: our configuration, links to the model, nothing else."""

import json
import os
import shutil

import pytest

from edgesdk.backends import genai_folder as module
from edgesdk.backends.genai_folder import check_genai_config, genai_folder
from edgesdk.backends.onnxruntime_genai import open_genai
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import BundleError


@pytest.fixture
def bundle(onnx_bundle):
    return onnx_bundle.bundle


def test_it_holds_the_model_its_data_and_our_configuration(bundle):
    variant = bundle.variant("resident")
    with genai_folder(bundle, variant) as folder:
        assert sorted(os.listdir(folder)) == ["genai_config.json", "model.onnx", "model.onnx.data"]
        config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
        assert (folder / "model.onnx").samefile(bundle.file(variant.entry))
    assert not folder.exists()
    theirs = json.loads(bundle.file("variants/resident/genai_config.json").read_text(encoding="utf-8"))
    assert config == theirs


def test_without_links_it_is_a_copy(bundle, monkeypatch):
    def refuse(source, target):
        raise OSError

    monkeypatch.setattr(module.os, "symlink", refuse)
    monkeypatch.setattr(module.os, "link", refuse)
    with genai_folder(bundle, bundle.variant("resident")) as folder:
        assert (folder / "model.onnx").read_bytes() == bundle.file(
            "variants/resident/model.onnx"
        ).read_bytes()


def test_the_runtime_answers_from_it_when_the_bundle_has_no_configuration(onnx_bundle, tmp_path, reseal):
    pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")
    copy = shutil.copytree(onnx_bundle.bundle.path, tmp_path / "bundle")
    (copy / "variants/resident/genai_config.json").unlink()
    reseal(copy, edit=lambda document: document["files"].pop("variants/resident/genai_config.json"))
    found = open_bundle(copy)
    opened = open_genai(OpenRequest(found, found.variant("resident"), 1))
    logits = opened.model.new_sequence().extend(onnx_bundle.tokens)
    assert abs(logits - onnx_bundle.logits[len(onnx_bundle.tokens) - 1]).max() < 1e-3
    opened.model.close()


def test_numbers_of_another_version_pass(onnx_bundle, tmp_path, reseal):
    copy = shutil.copytree(onnx_bundle.bundle.path, tmp_path / "bundle")
    path = copy / "variants/resident/genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["search"]["top_k"] = 3
    config["model"]["eos_token_id"] = [2, 3]
    path.write_text(json.dumps(config), encoding="utf-8")
    bundle = open_bundle(reseal(copy))
    check_genai_config(bundle, bundle.variant("resident"))
    path.write_text("[" * 100_000, encoding="utf-8")
    bundle = open_bundle(reseal(copy))
    with pytest.raises(BundleError, match=r"genai_config\.json"):
        check_genai_config(bundle, bundle.variant("resident"))
