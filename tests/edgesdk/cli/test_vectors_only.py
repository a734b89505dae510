"""Commands on a bundle that gives vectors only: what it is, what it does, and one line for the rest."""

from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME
from edgesdk.bundle.reader import open_bundle
from edgesdk.text.abilities import find_abilities

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(
        DATA / "embedders" / "embeddinggemma",
        targets=("litert",),
        recipes=("f32", "w8-round"),
        context=700,
        allow_parity_miss=True,
    )


def test_it_is_shown_with_its_proof(edgesdk, bundle):
    shown = edgesdk("inspect", bundle)
    assert shown.code == 0
    assert "writes no text" in shown.out
    assert "least" in shown.out
    explained = edgesdk("explain", bundle)
    assert (explained.code, explained.out.count("has no meaning")) == (0, 4)
    assert "litert-f32 with litert" in explained.out
    assert "gives vectors only" in edgesdk("explain", bundle, "--measure").error
    estimated = edgesdk(
        "convert",
        DATA / "embedders" / "embeddinggemma",
        "--target",
        "litert",
        "--recipe",
        "f32",
        "--estimate",
    )
    assert estimated.code == 0


def test_its_chat_template_promises_nothing(bundle):
    opened = open_bundle(bundle)
    assert CHAT_TEMPLATE_NAME in opened.manifest.files
    assert set(find_abilities(opened).values()) == {None}


def test_its_proof_is_repeated(edgesdk, bundle):
    document = edgesdk("verify", bundle, "--json").json
    exact = document["variants"][0]
    assert exact["status"] == "passed"
    assert exact["measured"]["cosine_least"] > 0.99999
    assert "order" in edgesdk("verify", bundle).out


def test_it_embeds(edgesdk, bundle, tmp_path):
    (tmp_path / "lines.txt").write_text("The quick fox\nA slow dog\n")
    assert edgesdk("embed", bundle, "--lines", tmp_path / "lines.txt", "--out", tmp_path / "v.npy").code == 0
    assert np.load(tmp_path / "v.npy").shape == (2, 64)


@pytest.mark.parametrize(
    "arguments", [("run", "Hello"), ("chat",), ("bench",), ("eval", "--text", "x"), ("profile",)]
)
def test_what_writes_text_is_refused(edgesdk, bundle, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x").write_text("The quick brown fox jumps over the lazy dog. " * 9)
    command, *rest = arguments
    refused = edgesdk(command, bundle, *rest)
    assert refused.code == 1
    assert "gives vectors only" in refused.error


def test_targets_and_wishes_that_it_cannot_have(edgesdk, tmp_path):
    source = DATA / "embedders" / "embeddinggemma"
    for options, expected in (
        (("--target", "litert,onnx"), "give --target litert"),
        (("--target", "litert", "--cells", "int8"), "int8 cells cannot be had"),
        (("--target", "litert", "--skip-layers", "1"), "fewer layers or tokens cannot be had"),
        (("--target", "litert", "--hidden-states"), "hidden states cannot be had"),
    ):
        refused = edgesdk("convert", source, tmp_path / "out", *options)
        assert refused.code == 1
        assert expected in refused.error
        assert not (tmp_path / "out").exists()
