"""Dense modules behind pooling: one matrix, or one line that says what else they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.open_huggingface import open_huggingface

SOURCE = Path(__file__).parents[2] / "data" / "embedders" / "embeddinggemma"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(SOURCE, tmp_path / "embedder"))


def change(path, **settings):
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_they_are_one_matrix_and_their_files_are_named(folder):
    found = open_huggingface(folder)
    first, second = (
        load_file(folder / name / "model.safetensors")["linear.weight"] for name in ("2_Dense", "3_Dense")
    )
    np.testing.assert_allclose(found.projection, second.astype(np.float64) @ first, rtol=1e-6)
    assert found.projection.dtype == np.float32
    program = read_program(found)
    assert program.spec.projection == program.spec.states_size == 64
    np.testing.assert_array_equal(program.weights.load("projection"), found.projection)
    assert [file.name for file in found.source.files][1:] == [
        "2_Dense/model.safetensors",
        "3_Dense/model.safetensors",
    ]


def test_without_them_states_stay_what_they_are(folder):
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([m for m in modules if not m["type"].endswith("Dense")]))
    program = read_program(open_huggingface(folder))
    assert program.spec.projection is None
    assert program.graph.outputs == ("states",)
    assert "projection" not in [value.name for value in program.graph.weights]


def test_windows_reach_both_ways_as_in_transformers(folder):
    spec = read_program(open_huggingface(folder)).spec
    assert not spec.is_causal
    assert [layer.window for layer in spec.layers] == [7, None, 7, None]  # of 12 in all


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: change(f / "2_Dense" / "config.json", activation_function="torch.nn.Tanh"), "activation"),
        (lambda f: change(f / "2_Dense" / "config.json", bias=True), "has a bias"),
        (lambda f: change(f / "2_Dense" / "config.json", in_features=63), "reads 64 numbers"),
        (lambda f: change(f / "3_Dense" / "config.json", in_features=64), "reads 128 numbers"),
        (lambda f: change(f / "2_Dense" / "config.json", out_features=127), "expected linear.weight"),
        (lambda f: change(f / "2_Dense" / "config.json", out_features="128"), "out_features"),
        (lambda f: (f / "2_Dense" / "model.safetensors").unlink(), "which its module reads"),
        (
            lambda f: save_file({"other": np.ones((2, 2), np.float32)}, f / "2_Dense" / "model.safetensors"),
            "expected linear.weight",
        ),
    ],
)
def test_others_are_refused_by_name(folder, spoil, expected):
    spoil(folder)
    with pytest.raises(CheckpointError, match=expected):
        open_huggingface(folder)


def test_a_causal_model_has_none(folder):
    change(folder / "config.json", use_bidirectional_attention=False)
    with pytest.raises(CheckpointError, match="dense modules behind pooling"):
        read_program(open_huggingface(folder))


def test_other_modules_are_refused_by_name(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.WordWeights"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="WordWeights"):
        open_huggingface(folder)


def test_a_product_beyond_float32_is_refused(folder):
    for name in ("2_Dense", "3_Dense"):
        path = folder / name / "model.safetensors"
        matrix = load_file(path)["linear.weight"]
        save_file({"linear.weight": np.full_like(matrix, 1e30)}, path)
    with pytest.raises(CheckpointError, match="the product of all dense modules"):
        open_huggingface(folder)
