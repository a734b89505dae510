"""What sentence-transformers' files say, and what of it is refused in one line."""

import json
import shutil
from pathlib import Path

import pytest

from edgesdk.bundle.embedding_record import EmbeddingRecord
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from tests.data.tiny_gguf import write_tiny_gguf

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def embedder(tmp_path):
    return Path(shutil.copytree(DATA / "embedders" / "qwen3", tmp_path / "embedder"))


def change(folder, file, **changes):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_pooling_normalising_and_prompts_are_read(embedder):
    record = open_checkpoint(str(embedder)).embedding
    prompts = {"query": "Instruct: find what answers\nQuery:", "document": ""}
    assert record == EmbeddingRecord("last", normalise=True, prompts=prompts)
    change(embedder, "config_sentence_transformers.json", default_prompt_name="query")
    change(embedder, "1_Pooling/config.json", pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)
    record = open_checkpoint(str(embedder)).embedding
    assert (record.pooling, record.default_prompt) == ("mean", "query")
    modules = json.loads((embedder / "modules.json").read_text())
    (embedder / "modules.json").write_text(json.dumps(modules[:2]))
    assert not open_checkpoint(str(embedder)).embedding.normalise
    (embedder / "modules.json").unlink()
    assert open_checkpoint(str(embedder)).embedding is None


def test_pooling_by_its_newer_name(embedder):
    (embedder / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 64, "pooling_mode": "cls"})
    )
    assert open_checkpoint(str(embedder)).embedding.pooling == "cls"


@pytest.mark.parametrize(
    ("file", "changes", "expected"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools by ['lasttoken', 'max']"),
        ("1_Pooling/config.json", {"pooling_mode_lasttoken": False}, "pools by []"),
        ("1_Pooling/config.json", {"include_prompt": False}, "leaves the prompt out of pooling"),
        ("1_Pooling/config.json", {"word_embedding_dimension": 32}, "has vectors of 32, the model of 64"),
        ("config_sentence_transformers.json", {"prompts": {"query": 1}}, "the prompt 'query': 1"),
        ("config_sentence_transformers.json", {"prompts": ["x"]}, "has prompts ['x'], expected an object"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "default_prompt_name 'x'"),
    ],
)
def test_what_is_not_known_is_refused_by_its_name(embedder, file, changes, expected):
    change(embedder, file, **changes)
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(str(embedder))
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({}, "expected a list of modules"),
        ([{"type": "a.Transformer", "path": ""}], "expected a list of modules"),
        ([{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "../x"}], "a plain path"),
        (
            [{"type": "a.Transformer", "path": ""}, {"type": "a.Dense", "path": "x"}],
            "lists Transformer, Dense",
        ),
        (
            [{"type": f"a.{kind}", "path": "1_Pooling"} for kind in ("Transformer", "Pooling", "Dense")],
            "dense modules are known as matrices alone",
        ),
    ],
)
def test_other_modules_are_refused(embedder, modules, expected):
    (embedder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(str(embedder))
    assert expected in str(raised.value)


@pytest.mark.parametrize(("kind", "pooling"), [(1, "mean"), (2, "cls"), (3, "last"), (0, None)])
def test_gguf_files_say_how_they_pool(tmp_path, kind, pooling):
    path = write_tiny_gguf(
        tmp_path / "x.gguf", "qwen3", more=lambda writer: writer.add_uint32("qwen3.pooling_type", kind)
    )
    record = open_checkpoint(str(path)).embedding
    assert record == (None if pooling is None else EmbeddingRecord(pooling, normalise=True))


def test_gguf_files_that_rank_are_refused(tmp_path):
    path = write_tiny_gguf(
        tmp_path / "x.gguf", "qwen3", more=lambda writer: writer.add_uint32("qwen3.pooling_type", 4)
    )
    with pytest.raises(CheckpointError, match=r"has qwen3.pooling_type 4, expected one of \[1, 2, 3\]"):
        open_checkpoint(str(path))
