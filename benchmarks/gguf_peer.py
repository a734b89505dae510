"""GGUF files as llama.cpp's own converter writes them, read back, against the checkpoints they came from.

    python benchmarks/gguf_peer.py llama.cpp --python peer/bin/python

The folder `llama.cpp` holds its convert_hf_to_gguf.py with what that imports (a checkout, or the sources of
llama-cpp-python); PYTHON is an interpreter with torch, transformers and sentencepiece. Every tiny checkpoint
of tests/data is converted in float32 and read by both paths; compared are the decoders and the logits of the
evaluator on the reference's tokens. The converter knows tokenizers by a hash, and ours are not among them: it
is told that they split as GPT-2's. Where it asks for a SentencePiece file instead, it gets one of as many
pieces. Tokens are given as ids, so neither matters here. Both paths read the same copy of the checkpoint, in
which `_SPELT` writes what the converter asks for as it is written in releases.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

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
_SPELT: dict[str, Config] = {
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3": {"layer_types": ["sliding_attention"] * 3, "query_pre_attn_scalar": 16},
    "smollm3": {"no_rope_layers": None, "no_rope_layer_interval": 4},
    "mistral": {"sliding_window": None},
    "granitemoehybrid": {"layer_types": ["attention", "attention"]},
    "hunyuan": {"max_position_embeddings": 32768, "rope_parameters": {
        "alpha": 50.0, "factor": 1.0, "rope_theta": 10000.0, "rope_type": "dynamic"}},
}  # fmt: skip
"""Checkpoint -> keys of its config.json: transformers 5 calls attention otherwise than Granite's releases,
and the converter takes dynamic rotation with the context and base of Hunyuan's alone; scores of Gemma 2,
kinds of layers of Gemma 3 and the window of Mistral are as their files leave unsaid."""


@dataclass(frozen=True)
class Compared:
    """One checkpoint.

    Attributes:
        name: of its folder.
        difference: of logits, over the largest of them; None where there is nothing to compare.
        note: what stood in the way, or differs.
    """

    name: str
    difference: float | None
    note: str = ""


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
    """A copy of a tiny checkpoint, as `_SPELT` has it."""
    folder = shutil.copytree(TINY / name, scratch / name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | _SPELT.get(name, {})), encoding="utf-8")
    return folder


def _run(command: list[str]) -> str | None:
    """None where a command succeeds, else the last line of what it says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return None if done.returncode == 0 else (lines[-1] if lines else "it failed")[:160]


def program_of(source: Path) -> Program:
    """The decoder of a checkpoint with its weights."""
    checkpoint = open_checkpoint(str(source))
    return read_program(checkpoint)


def compare(folder: Path, file: Path) -> Compared:
    """Both paths' logits on the reference's first text."""
    with np.load(folder / "reference.npz") as reference:
        tokens = reference["tokens"][: int(reference["lengths"][0])].astype(np.int32)
    try:
        theirs = program_of(file)
    except EdgeError as error:
        return Compared(folder.name, None, f"refused: {error}")
    ours = program_of(folder)
    expected, found = (next(sequence_logits(program, [tokens])) for program in (ours, theirs))
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    same = asdict(ours.spec)["blocks"] == asdict(theirs.spec)["blocks"]
    return Compared(folder.name, difference, "" if same else "the blocks are described otherwise")


@click.command(help="llama.cpp's GGUF files against the checkpoints that they were made of.")
@click.argument("llama", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--python", default=sys.executable, help="Interpreter with torch and transformers.")
@click.option("--only", help="Folders of tests/data/tiny, joined by commas. Default: all.")
@click.option("--json", "as_json", is_flag=True)
def main(llama: Path, python: str, only: str | None, as_json: bool) -> None:
    names = only.split(",") if only else sorted(p.parent.name for p in TINY.glob("*/config.json"))
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            folder, out = spell(name, Path(scratch)), Path(scratch) / f"{name}.gguf"
            failed = convert(llama.resolve(), python, folder, out)
            one = compare(folder, out) if failed is None else Compared(name, None, f"not written: {failed}")
            found.append(one)
            if not as_json:
                figure = "-" if one.difference is None else f"{one.difference:.1e}"
                click.echo(f"{one.name:22} {figure:>8} {one.note}")
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))


if __name__ == "__main__":
    main()
