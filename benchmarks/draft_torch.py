"""A draft's training step beside the same in PyTorch: times, and that both learn the same.

    python benchmarks/draft_torch.py SOURCE FEATURES --torch PYTHON [--steps 12] [--rounds 3] [--threads N]

FEATURES is `OUT/work/features` of a training (`edgesdk train draft`); PYTHON is one of an environment that
has torch. Both begin with the same parameters and take the same batches, the same loss (kld), AdamW,
clipping and learning rates, each in a process of its own, in turn. Printed are the losses of both, which have
to be the same, and the median of a step by wall and by processor time, the first ones left out, for float32
and for our bfloat16 factors.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

HERE = Path(__file__).parent
_BATCHES = 8


def ours(source: str, features: Path, steps: int, numbers: str, out: Path | None) -> dict[str, object]:
    """Trains with jax for a few steps; with `out` writes what the other needs and trains nothing."""
    import jax
    import numpy as np

    from edgesdk_converters.architectures.read_program import read_program
    from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
    from edgesdk_converters.training import trainer
    from edgesdk_converters.training.choose_words import choose_words
    from edgesdk_converters.training.draft_batches import WINDOW, DraftBatches
    from edgesdk_converters.training.draft_learner import DraftLearner, freeze
    from edgesdk_converters.training.features import open_features
    from edgesdk_converters.training.losses import find_loss
    from edgesdk_converters.training.recurrent_draft import DraftShape

    checkpoint = open_checkpoint(source)
    program = read_program(checkpoint)
    spec = program.spec
    found = open_features(features)
    said = (found.tokens[s + first : s + n] for s, n, first in found.bounds.tolist())
    words = choose_words(said, checkpoint.tokenizer.record.eos_ids, spec.vocab_size, 8192)
    frozen, batches = freeze(program, words), DraftBatches(found, 4, 16, 0)
    shape = DraftShape(spec.hidden_size, 1024, 1, spec.norm_eps, numbers)  # type: ignore[arg-type]
    learner = DraftLearner(shape, frozen, batches, find_loss("kld"), 0)
    options = trainer.TrainOptions(max(steps, 2))
    if out is not None:
        schedule = trainer.learning_rates(options)
        arrays: dict[str, object] = {
            "embedding": frozen.embedding,
            "rows": frozen.head.rows,
            "place": frozen.place,
            "eps": spec.norm_eps,
            "layers": 1,
            "decay": 0.8,
            "window": WINDOW,
            "batches": _BATCHES,
            "rates": [float(schedule(step)) for step in range(steps)],
            **{f"parameter.{name}": value for name, value in learner.start().items()},
        }
        for i in range(_BATCHES):
            batch = batches.at(i)
            for name in ("hidden", "log_z", "tokens", "valid"):
                arrays[f"{name}.{i}"] = getattr(batch, name)
        np.savez(out, **{name: np.asarray(value) for name, value in arrays.items()})
        return {}
    with tempfile.TemporaryDirectory() as folder:
        run = trainer.Trainer(learner, options, Path(folder), {})
        state, times, losses = run.state, [], []
        for step in range(steps):
            wall, cpu = time.perf_counter(), time.process_time()
            state, figures = run.after(state, learner.batch(step % _BATCHES))
            losses.append(float(figures["loss"]))
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return {"losses": losses, "times": times, "jax": jax.__version__}


@click.command()
@click.argument("source")
@click.argument("features", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--torch", "python", required=True, help="A Python that has torch.")
@click.option("--steps", default=12, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--only", hidden=True)
def main(
    source: str, features: Path, python: str, steps: int, rounds: int, threads: int, only: str | None
) -> None:
    """Prints the comparison."""
    if only is not None:
        click.echo(json.dumps(ours(source, features, steps, only, None)))
        return
    eigen = "true" if threads > 1 else "false"
    flags = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    environment = {**os.environ, "XLA_FLAGS": flags, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        ours(source, features, steps, "float32", given)
        again = [sys.executable, __file__, source, str(features), "--torch", python, "--steps", str(steps)]
        commands = {
            "ours float32": [*again, "--only", "float32"],
            "ours bfloat16": [*again, "--only", "bfloat16"],
            "torch float32": [
                python, str(HERE / "workers" / "torch_draft.py"), str(given), str(steps), str(threads)
            ],
        }  # fmt: skip
        found: dict[str, list[dict[str, list[object]]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    for name, runs in found.items():
        walls = [wall for run in runs for wall, _ in run["times"][2:]]
        cpus = [cpu for run in runs for _, cpu in run["times"][2:]]
        losses = " ".join(f"{loss:.4f}" for loss in runs[0]["losses"][:6])
        click.echo(
            f"{name:14} step {1e3 * statistics.median(walls):.0f} ms wall, "
            f"{1e3 * statistics.median(cpus):.0f} ms processor; losses {losses}"
        )


if __name__ == "__main__":
    main()
