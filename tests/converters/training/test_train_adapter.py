"""An adapter is trained: it learns, is a folder of PEFT, goes on with the same bits and merges exactly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

jax = pytest.importorskip("jax", reason="needs the extra 'train'")
from safetensors.numpy import load_file  # noqa: E402

from edgesdk.cli.main import cli  # noqa: E402
from edgesdk.errors import CheckpointError, UnsupportedOption  # noqa: E402
from edgesdk_converters.adapters.adapter import AdapterRequest  # noqa: E402
from edgesdk_converters.adapters.merge_adapter import merge_adapters  # noqa: E402
from edgesdk_converters.architectures.registry import read_spec, weights_for  # noqa: E402
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint  # noqa: E402
from edgesdk_converters.graph.decoder import build_decoder  # noqa: E402
from edgesdk_converters.graph.full_sequence import sequence_logits  # noqa: E402
from edgesdk_converters.graph.program import Program  # noqa: E402
from edgesdk_converters.training.adapter_learner import AdapterLearner  # noqa: E402
from edgesdk_converters.training.adapter_training import AdapterTraining  # noqa: E402
from edgesdk_converters.training.train_adapter import train_adapter  # noqa: E402
from edgesdk_converters.training.trainer import Trainer, TrainOptions  # noqa: E402

TINY = Path(__file__).parents[2] / "data" / "tiny"
SENTENCE = "the small boat went over the cold sea and the old man sang of the cold sea. "


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "boat.txt"
    path.write_text(SENTENCE * 150, encoding="utf-8")
    return path


def options_for(text, **changed):
    base = AdapterTraining((str(text),), hours=None, steps=12, rank=4, windows=2, learning_rate=5e-3)
    return replace(base, **changed)


@pytest.fixture(scope="module", params=[("llama", False), ("llama", True), ("qwen2", True)])
def trained(request, text, tmp_path_factory):
    name, tables = request.param
    out = tmp_path_factory.mktemp("adapter")
    return name, tables, out, train_adapter(str(TINY / name), out, options_for(text, tables=tables))


def opened(name, adapter=None):
    checkpoint = open_checkpoint(str(TINY / name))
    if adapter is not None:
        checkpoint, _ = merge_adapters(checkpoint, [AdapterRequest(adapter)])
    spec = read_spec(checkpoint.config)
    return Program(spec, build_decoder(spec), weights_for(checkpoint, spec))


def test_it_learns(trained):
    _, tables, out, report = trained
    assert report.bits_after < report.bits_before - 0.05
    assert report.steps == 12
    assert (report.share > 0.2) == tables
    record = json.loads((out / "training.json").read_text())
    assert record["report"]["bits_after"] == report.bits_after
    assert record["data"][0]["sha256"]


def test_merged_it_says_what_was_learnt(trained):
    """The merged checkpoint gives the logits of frozen products with terms beside them."""
    name, tables, out, _ = trained
    program = opened(name)
    tokens = np.arange(3, 67, dtype=np.int32) % program.spec.vocab_size
    windows = np.stack([tokens, tokens])
    options = {"rank": 4, "scale": 8.0, "layers": None, "tables": tables, "of_a_step": 1, "seed": 0}
    learner = AdapterLearner(program, windows, **options)
    settings = json.loads((out / "training.json").read_text())["options"]
    trainer = Trainer(learner, TrainOptions(12, learning_rate=5e-3), out / "work" / "adapter", settings)
    assert trainer.state.step == 12  # what the run left
    nats = learner.score(trainer.state.parameters, windows[:1])
    (logits,) = sequence_logits(opened(name, out), [tokens])
    logits = logits[:-1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    chances = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert nats == pytest.approx(-chances[np.arange(63), tokens[1:]].sum(), rel=1e-4)


def test_the_folder_is_as_peft_has_it(trained):
    name, tables, out, _ = trained
    tensors = load_file(out / "adapter_model.safetensors")
    config = json.loads((out / "adapter_config.json").read_text())
    q = "base_model.model.model.layers.0.self_attn.q_proj"
    assert tensors[f"{q}.lora_A.weight"].shape[0] == 4 == tensors[f"{q}.lora_B.weight"].shape[1]
    assert "q_proj" in config["target_modules"]
    assert ("base_model.model.model.embed_tokens.weight" in tensors) == tables
    assert ("modules_to_save" in config) == tables
    assert config.get("ensure_weight_tying", False) == (tables and opened(name).spec.tied_head)


def test_going_on_gives_the_same_bits(text, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_adapter(str(TINY / "llama"), whole, options_for(text))

    batch, asked = AdapterLearner.batch, []

    def stop(learner, step):
        asked.append(step)
        if step == 7:
            raise KeyboardInterrupt
        return batch(learner, step)

    monkeypatch.setattr(AdapterLearner, "batch", stop)
    with pytest.raises(KeyboardInterrupt):
        train_adapter(str(TINY / "llama"), parts, options_for(text))
    monkeypatch.undo()
    assert asked == list(range(8))
    assert (parts / "adapter_model.safetensors").exists()  # what Ctrl-C leaves can be used
    train_adapter(str(TINY / "llama"), parts, options_for(text))
    for name, tensor in load_file(whole / "adapter_model.safetensors").items():
        np.testing.assert_array_equal(tensor, load_file(parts / "adapter_model.safetensors")[name])


def test_blocks_that_are_named_learn_alone(text, tmp_path):
    train_adapter(str(TINY / "llama"), tmp_path / "out", options_for(text, layers=(1,), steps=2))
    names = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert names
    assert all(".layers.1." in name for name in names)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == [1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": (7,)}, "layers names 7"),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": float("nan")}, "alpha"),
        ({"data": ()}, "data is empty"),
        ({"data": ("sample", "sample")}, "twice"),
        ({"hours": 1.0}, "one of the two"),
    ],
)
def test_options_without_meaning_are_refused(text, tmp_path, change, says):
    with pytest.raises(UnsupportedOption, match=says):
        train_adapter(str(TINY / "llama"), tmp_path / "out", options_for(text, **change))


def test_what_no_adapter_can_be_written_for_is_refused_first(text, tmp_path):
    with pytest.raises(CheckpointError, match="in another form"):
        train_adapter(str(TINY / "phi3"), tmp_path / "out", options_for(text))
    assert not (tmp_path / "out").exists()


def test_too_little_text(tmp_path):
    (tmp_path / "t.txt").write_text("A word.")
    with pytest.raises(UnsupportedOption, match="256"):
        train_adapter(str(TINY / "llama"), tmp_path / "out", options_for(tmp_path / "t.txt"))


def test_by_the_command_line(text, tmp_path):
    arguments = ["train", "adapter", str(TINY / "llama"), str(tmp_path / "out"), "--data", str(text)]
    found = CliRunner().invoke(cli, [*arguments, "--steps", "2", "--rank", "2", "--json"])
    assert found.exit_code == 0, found.output
    last = json.loads(found.output.splitlines()[-1])
    assert last["event"] == "done"
    assert last["report"]["steps"] == 2
    found = CliRunner().invoke(cli, [*arguments, "--layers", "a"])
    assert found.exit_code == 1
