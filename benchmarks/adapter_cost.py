"""What adapters at run time cost: a step with none, with their parts unused, and with one.

    python benchmarks/adapter_cost.py smollm2-135m --target litert --recipe w8-round --rank 16 --adapters 1

It makes random adapters on every product of every layer, converts the model with and without, and runs steps
of T tokens after a prompt in turn, by processor time of one thread, so that it can be read on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import edgesdk
from edgesdk.kv.step_model import steps_of
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk_converters.architectures.registry import find_architecture, read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert

PARTS = ("q", "k", "v", "o", "gate", "up", "down")
BACKENDS = {"litert": "litert", "onnx-step": "onnxruntime-step", "onnx": "onnxruntime"}
BEFORE = 64
"""Tokens in the cells when a step is measured."""


def write_adapter(source: str, folder: Path, rank: int, seed: int) -> None:
    """A random LoRA as PEFT saves it."""
    from safetensors.numpy import save_file

    checkpoint = open_checkpoint(source)
    spec = read_spec(checkpoint.config)
    names = find_architecture(spec.architecture).names["huggingface"].tensors
    weights, random, tensors = weights_for(checkpoint, spec), np.random.default_rng(seed), {}
    for block in spec.blocks:
        for part in PARTS:
            rows, columns = weights.shape(f"layers.{block.number}.{part}")
            module = names[f"layers.{{i}}.{part}"].replace("{i}", str(block.number)).removesuffix(".weight")
            for side, shape in (("A", (rank, columns)), ("B", (rows, rank))):
                values = random.standard_normal(shape) * 0.02
                tensors[f"base_model.model.{module}.lora_{side}.weight"] = values.astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    targets = [f"{part}_proj" for part in PARTS]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config))


class Steps:
    """A model of one thread: one list of cells, or a sequence of a backend with a cache of its own."""

    def __init__(self, folder: Path, backend: str) -> None:
        """Loads it."""
        self._model = edgesdk.load(folder, backend=backend, threads=1)
        steps = steps_of(self._model.backend)
        self._runner = steps and StepRunner(steps, self._model.decoder, self._model.full_context)
        self._cells = None

    def begin(self, gates: tuple[float, ...], text) -> None:
        """Starts with these tokens, run with these gates."""
        if self._runner is None:
            self._cells = self._model.backend.new_sequence()
            self._cells.use_gates(gates)
        else:
            self._cells = self._runner.new_list(gates)
        self.step(text)

    def step(self, text) -> None:
        """Appends tokens, with the logits after the last."""
        if self._runner is None:
            self._cells.extend(text)
        else:
            self._runner.run([StepEntry(self._cells, text, "last")])

    def back(self) -> None:
        """Forgets all but the beginning."""
        self._cells.truncate(BEFORE)

    def end(self) -> None:
        """Lets go of all tokens."""
        self._cells.close()


def measure(runners, asked, tokens: int, rounds: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of processor time of a step, by way, in turn."""
    found: dict[str, list[float]] = {name: [] for name in asked}
    text = np.random.default_rng(0).integers(5, 500, BEFORE + tokens).astype(np.int32)
    for _ in range(rounds):
        for name, (which, gates) in asked.items():
            runner = runners[which]
            runner.begin(gates, text[:BEFORE])
            best = np.inf
            for _ in range(repeats):
                began = time.process_time()
                runner.step(text[BEFORE:])
                best = min(best, time.process_time() - began)
                runner.back()
            found[name].append(best * 1e3)
            runner.end()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--target", default="litert", choices=list(BACKENDS))
    parser.add_argument("--recipe", default="w8-round")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=1)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 8, 128])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    backend = BACKENDS[arguments.target]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        adapters = []
        for i in range(arguments.adapters):
            write_adapter(arguments.source, root / f"a{i}", arguments.rank, i)
            adapters.append(str(root / f"a{i}"))
        options = {"targets": (arguments.target,), "recipes": (arguments.recipe,), "prove": False}
        convert(arguments.source, root / "plain", ConvertOptions(**options))
        convert(arguments.source, root / "adapted", ConvertOptions(**options, adapters=tuple(adapters)))
        sizes = {
            name: sum(f.size_bytes for f in edgesdk.open_bundle(root / name).manifest.files.values())
            for name in ("plain", "adapted")
        }
        own = sum(record.size_bytes for record in edgesdk.open_bundle(root / "adapted").manifest.adapters)
        print(
            f"bytes: {sizes['plain'] / 1e6:.1f} MB, with adapters {sizes['adapted'] / 1e6:.1f} MB "
            f"(+{(sizes['adapted'] - sizes['plain']) / 1e6:.1f}), their own {own / 1e6:.1f} MB as float32"
        )
        runners = {name: Steps(root / name, backend) for name in sizes}
        asked = {"none": ("plain", ()), "unused": ("adapted", ()), "one": ("adapted", (1.0,))}
        for tokens in arguments.tokens:
            found = measure(runners, asked, tokens, arguments.rounds, arguments.repeats)
            line = f"T = {tokens}: none {min(found['none']):.2f} ms"
            for name in ("unused", "one"):
                ratios = [a / b for a, b in zip(found["none"], found[name], strict=True)]
                line += f", {name} {min(found[name]):.2f} ms ({statistics.median(ratios):.3f}x)"
            print(line, flush=True)


if __name__ == "__main__":
    main()
