"""GGUF files as llama.cpp's own converter writes them, read back, against the checkpoints they came from.

    python benchmarks/gguf_peer.py llama.cpp --python peer/bin/python

The folder `llama.cpp` holds its convert_hf_to_gguf.py with what that imports (a checkout, or the sources of
llama-cpp-python); PYTHON is an interpreter with torch, transformers and sentencepiece. Every tiny checkpoint
of tests/data is converted in float32 and read by both paths; compared are the decoders and the logits of the
evaluator on the reference's tokens. The converter knows tokenizers by a hash, and ours are not among them: it
is told that they split as GPT-2's. Where it asks for a SentencePiece file instead, it gets one of as many
pieces. Tokens are given as ids, so neither matters here. Both paths read the same copy of the checkpoint, in
which `_SPELT` writes what the converter asks for as it is written in releases, and `_LAYERS` repeats layers
until the pattern of a release shows.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import ml_dtypes  # noqa: F401  (safetensors reads bfloat16 with it)
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from edgesdk.errors import EdgeError
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.gguf_config import Config
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program

TINY = Path(__file__).parents[1] / "tests" / "data" / "tiny"
_RUN = """
import runpy, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
from conversion.base import TextModel
from conversion.gemma import Gemma4Model
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
Gemma4Model.set_vocab = TextModel._set_vocab_gpt2
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_PIECES = """
import sys
from sentencepiece import sentencepiece_model_pb2 as proto
model = proto.ModelProto()
kinds = {0: 2, 1: 3, 2: 3}
for i in range(int(sys.argv[2])):
    model.pieces.add(piece=f"<{i}>", score=-float(i), type=kinds.get(i, 1))
open(sys.argv[1], "wb").write(model.SerializeToString())
"""
_ENGINE = """
import sys
import numpy
from llama_cpp import Llama
tokens = numpy.load(sys.argv[2]).tolist()
F32 = 0
model = Llama(sys.argv[1], n_ctx=256, n_threads=1, logits_all=True, type_k=F32, type_v=F32, verbose=False)
model.eval(tokens)
numpy.save(sys.argv[3], model.scores[: len(tokens)])
"""
_GEMMA3: Config = {
    "num_hidden_layers": 7, "query_pre_attn_scalar": 16,
    "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
}  # fmt: skip
_SPELT: dict[str, Config] = {
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3": _GEMMA3,
    "gemma3-wrapper": {"text_config": _GEMMA3},
    "smollm3": {
        "num_hidden_layers": 5, "layer_types": ["full_attention"] * 5,
        "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0, 1]},
    "exaone4": {
        "num_hidden_layers": 64,
        "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 16},
    "qwen2": {"use_sliding_window": False, "sliding_window": None, "layer_types": ["full_attention"] * 2},
    "mistral": {"sliding_window": None},
    "granitemoehybrid": {"layer_types": ["attention", "attention"]},
    "hunyuan": {"max_position_embeddings": 32768, "rope_parameters": {
        "alpha": 50.0, "factor": 1.0, "rope_theta": 10000.0, "rope_type": "dynamic"}},
}  # fmt: skip
"""Checkpoint -> keys of its config.json: transformers 5 calls attention otherwise than Granite's releases,
and the converter takes dynamic rotation with the context and base of Hunyuan's alone. No key of GGUF says
the scale of scores of Gemma 2 and 3, which layers of Gemma 3 see everything (every sixth), which of SmolLM3
do not rotate (every fourth), or a window of Mistral or Qwen2; llama.cpp gives EXAONE 4 windows where it has
the 64 layers of the large one. These are as in releases."""
_LAYERS = {"gemma3": 7, "gemma3-wrapper": 7, "smollm3": 5, "exaone4": 64}
"""Checkpoint -> layers that it gets, by copies of its own in turn."""
_LAYER = re.compile(r"(?<!encoder\.layers\.)(?<=layers\.)\d+")  # not of a vision tower
_WORDS = {"qwen2": ("<|pad|>", "<|endoftext|>")}
"""Checkpoint -> a word of its tokenizer and what it is called in releases; transformers adds the second to
every Qwen2 tokenizer without it, and that is one word more than the converter's table has rows."""


@dataclass(frozen=True)
class Compared:
    """One checkpoint.

    Attributes:
        name: of its folder.
        difference: of logits, over the largest of them; None where there is nothing to compare.
        note: what stood in the way, or differs.
        engine: difference of llama.cpp's own logits from those of the checkpoint; None where it did not run.
    """

    name: str
    difference: float | None
    note: str = ""
    engine: float | None = None


def converter(llama: Path, python: str, folder: Path, out: Path, kind: str) -> list[str]:
    """The command of the peer's converter; `kind` is one of its types, such as `f32`."""
    command = [python, "-c", _RUN, str(llama), str(llama / "convert_hf_to_gguf.py"), str(folder)]
    return [*command, "--outfile", str(out), "--outtype", kind]


def convert(llama: Path, python: str, folder: Path, out: Path) -> str | None:
    """Has the peer convert a checkpoint; the last line of what it says where it fails."""
    command = converter(llama, python, folder, out, "f32")
    said = _run(command)
    if said and "tokenizer.model" in said:
        words = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        _run([python, "-c", _PIECES, str(folder / "tokenizer.model"), str(words)])
        said = _run(command)
    return said


def spell(name: str, scratch: Path) -> Path:
    """A copy of a tiny checkpoint, as `_SPELT`, `_LAYERS` and `_WORDS` have it."""
    folder = shutil.copytree(TINY / name, scratch / name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, value in _SPELT.get(name, {}).items():
        config[key] = config[key] | value if key == "text_config" else value
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if name in _LAYERS:
        repeat_layers(folder / "model.safetensors", _LAYERS[name])
    if name in _WORDS:
        for file in folder.glob("tokenizer*.json"):
            file.write_text(file.read_text(encoding="utf-8").replace(*_WORDS[name]), encoding="utf-8")
    return folder


def repeat_layers(file: Path, count: int) -> None:
    """Has the decoder of a checkpoint take its layers in turn until there are `count`."""
    tensors = load_file(file)
    layers = [(name, int(found[0])) for name in tensors if (found := _LAYER.search(name))]
    own = 1 + max(layer for _, layer in layers)
    for name, layer in layers:
        for copy in range(layer + own, count, own):
            tensors[_LAYER.sub(str(copy), name, count=1)] = tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})


def _run(command: list[str]) -> str | None:
    """None where a command succeeds, else the last line of what it says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return None if done.returncode == 0 else (lines[-1] if lines else "it failed")[:160]


def program_of(source: Path) -> Program:
    """The decoder of a checkpoint with its weights."""
    checkpoint = open_checkpoint(str(source))
    return read_program(checkpoint)


def engine_logits(python: str, file: Path, tokens: NDArray[np.int32]) -> NDArray[np.float32] | str:
    """(tokens, words) of llama.cpp itself with cells of 32 bits, or the last line of what it says."""
    given, found = file.with_suffix(".tokens.npy"), file.with_suffix(".logits.npy")
    np.save(given, tokens)
    said = _run([python, "-c", _ENGINE, str(file), str(given), str(found)])
    return np.load(found) if said is None else said


def compare(folder: Path, file: Path, engine: str | None = None) -> Compared:
    """Both paths' logits on the reference's first text, and llama.cpp's where `engine` is its interpreter."""
    with np.load(folder / "reference.npz") as reference:
        tokens = reference["tokens"][: int(reference["lengths"][0])].astype(np.int32)
    try:
        theirs = program_of(file)
    except EdgeError as error:
        return Compared(folder.name, None, f"refused: {error}")
    ours = program_of(folder)
    expected, found = (next(sequence_logits(program, [tokens])) for program in (ours, theirs))
    same = asdict(ours.spec)["blocks"] == asdict(theirs.spec)["blocks"]
    note, own = "" if same else "the blocks are described otherwise", None
    if engine is not None:
        run = engine_logits(engine, file, tokens)
        if isinstance(run, str):
            note = "; ".join(filter(None, (note, f"llama.cpp: {run}")))
        else:
            own = difference(expected, run)
    return Compared(folder.name, difference(expected, found), note, own)


def difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest, over the largest logit."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@click.command(help="llama.cpp's GGUF files against the checkpoints that they were made of.")
@click.argument("llama", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--python", default=sys.executable, help="Interpreter with torch and transformers.")
@click.option("--engine", help="Interpreter with llama-cpp-python, whose logits are compared as well.")
@click.option("--only", help="Folders of tests/data/tiny, joined by commas. Default: all.")
@click.option("--json", "as_json", is_flag=True)
def main(llama: Path, python: str, engine: str | None, only: str | None, as_json: bool) -> None:
    names = only.split(",") if only else sorted(p.parent.name for p in TINY.glob("*/config.json"))
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            folder, out = spell(name, Path(scratch)), Path(scratch) / f"{name}.gguf"
            failed = convert(llama.resolve(), python, folder, out)
            failure = Compared(name, None, f"not written: {failed}")
            one = compare(folder, out, engine) if failed is None else failure
            found.append(one)
            if not as_json:
                figures = ("-" if x is None else f"{x:.1e}" for x in (one.difference, one.engine))
                click.echo(f"{one.name:22} {' '.join(f'{x:>8}' for x in figures)} {one.note}")
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))


if __name__ == "__main__":
    main()
