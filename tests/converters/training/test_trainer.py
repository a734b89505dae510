"""The trainer: killed and gone on = uninterrupted to the bit; interrupts and full disks lose nothing."""

import os
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs the extra 'train'")
pytest.importorskip("optax", reason="needs the extra 'train'")

import jax.numpy as jnp  # noqa: E402

from edgesdk.errors import CheckpointError, TransformError, UnsupportedOption  # noqa: E402
from edgesdk_converters.progress import ProgressMeter  # noqa: E402
from edgesdk_converters.training.run_state import RunState, load_run, save_run  # noqa: E402
from edgesdk_converters.training.trainer import (  # noqa: E402
    LOG_FILE,
    STATE_FILE,
    Trainer,
    TrainOptions,
    read_log,
)
from edgesdk_converters.training.work_folder import check_target, plan_steps  # noqa: E402


class Line:
    """Learns a straight line through points that are drawn anew for each step."""

    tokens_of_a_step = 8

    def __init__(self, stop_at=None, error=None):
        self.stop_at, self.error = stop_at, error

    def start(self):
        return {"slope": jnp.zeros(3), "offset": jnp.zeros(())}

    def batch(self, step):
        if step == self.stop_at:
            raise self.error
        return np.random.default_rng(step).standard_normal((8, 3)).astype(np.float32)

    def loss(self, parameters, batch, key, progress):
        wanted = batch @ jnp.array([1.0, -2.0, 0.5]) + 0.3 + 0.01 * jax.random.normal(key, (8,))
        found = batch @ parameters["slope"] + parameters["offset"]
        loss = ((wanted - found) ** 2).mean()
        return loss, {"off.1": jnp.abs(wanted - found).max()}


def options(**changes):
    return TrainOptions(
        **{"steps": 60, "learning_rate": 0.05, "log_every": 10, "save_every_s": 0.0, **changes}
    )


def test_it_learns_and_says_how_it_goes(tmp_path):
    told = []
    found = Trainer(Line(), options(steps=200), tmp_path, {}).run(told.append)
    np.testing.assert_allclose(found["slope"], [1.0, -2.0, 0.5], atol=0.1)
    assert [line.step for line in told] == list(range(10, 201, 10))
    lines = read_log(tmp_path / LOG_FILE)
    assert [line["step"] for line in lines] == list(range(10, 201, 10))
    assert lines[-1]["loss"] < 0.05 * lines[0]["loss"]
    assert {"loss", "off.1", "tokens_per_s"} <= lines[0].keys()


def test_a_run_that_was_interrupted_goes_on_with_the_same_bits(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = Trainer(Line(), options(), tmp_path / "whole", {}).run()
    with pytest.raises(KeyboardInterrupt):
        Trainer(Line(33, KeyboardInterrupt()), options(), tmp_path / "parts", {}).run()
    again = Trainer(Line(), options(), tmp_path / "parts", {})
    assert again.state.step == 33
    parts = again.run()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])
    assert [line["step"] for line in read_log(tmp_path / "parts" / LOG_FILE)] == [10, 20, 30, 40, 50, 60]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_trainer import Line, Trainer, options
def told(line):
    if line.step == 30:
        os.kill(os.getpid(), signal.SIGKILL)
Trainer(Line(), options(), Path(sys.argv[1]), {}).run(told)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_a_run_that_was_killed_goes_on_with_the_same_bits(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = Trainer(Line(), options(), tmp_path / "whole", {}).run()
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), tmp_path / "killed", here])
    assert done.returncode == -signal.SIGKILL
    again = Trainer(Line(), options(), tmp_path / "killed", {})
    assert 10 <= again.state.step <= 30
    killed = again.run()
    for name in whole:
        np.testing.assert_array_equal(whole[name], killed[name])


def test_a_file_that_cannot_grow_leaves_the_state_that_was(tmp_path):
    """A limit on the size of files is what a full disk is to a program."""
    path = tmp_path / STATE_FILE
    small = RunState(1, {"w": jnp.zeros(4)}, {})
    save_run(path, small, {})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|cannot be written"):
            save_run(path, RunState(2, {"w": jnp.zeros(40_000)}, {}), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [STATE_FILE]


def test_other_options_do_not_go_on(tmp_path):
    Trainer(Line(), options(steps=10), tmp_path, {"loss": "kld"}).run()
    with pytest.raises(CheckpointError, match="whose loss is 'kld', not 'tvd'; give the same"):
        Trainer(Line(), options(steps=10), tmp_path, {"loss": "tvd"})
    with pytest.raises(CheckpointError, match="whose steps is 10, not 20"):
        Trainer(Line(), options(steps=20), tmp_path, {"loss": "kld"})


def test_a_run_that_ended_is_not_made_again(tmp_path):
    first = Trainer(Line(), options(steps=20), tmp_path, {}).run()
    again = Trainer(Line(0, AssertionError("it was trained again")), options(steps=20), tmp_path, {}).run()
    np.testing.assert_array_equal(first["slope"], again["slope"])


@pytest.mark.parametrize("settings", ["{", "[1]", "null", "[" * 100_000])
def test_a_state_that_does_not_say_of_which_run_it_is_is_named(tmp_path, settings):
    from safetensors.numpy import save_file

    path = tmp_path / STATE_FILE
    header = {"format": "edgesdk-training", "step": "3", "settings": settings}
    save_file({"parameters['w']": np.ones(4, np.float32)}, path, header)
    with pytest.raises(CheckpointError, match="begin again"):
        load_run(path, RunState(3, {"w": jnp.ones(4)}, ()), {})


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_a_damaged_state_is_named(tmp_path, damage):
    path = tmp_path / STATE_FILE
    like = RunState(3, {"w": jnp.ones(4)}, ())
    save_run(path, like, {})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "text":
        path.write_text("hello")
    else:
        like = RunState(3, {"w": jnp.ones(5)}, ())
    with pytest.raises(CheckpointError, match="begin again"):
        load_run(path, like, {})


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    class Wild(Line):
        def batch(self, step):
            return super().batch(step) * (np.inf if step > 12 else 1)

    with pytest.raises(TransformError, match="not finite at step 20; begin again with a smaller"):
        Trainer(Wild(), options(), tmp_path, {}).run()


@pytest.mark.parametrize(
    "changes", [{"steps": 0}, {"learning_rate": 0.0}, {"warmup": 1.0}, {"seed": -1}, {"clip": 0.0}]
)
def test_numbers_without_meaning_are_refused(changes):
    with pytest.raises(UnsupportedOption, match=f"{next(iter(changes))} is .* no meaning"):
        options(**changes)


@pytest.mark.parametrize("line", ["1", "[" * 100_000, '{"step": "1"}', "[1]", "\udcff"])
def test_a_strange_line_ends_the_log(tmp_path, line):
    log = tmp_path / LOG_FILE
    log.write_text('{"step": 1, "loss": 2.0}\n' + line + "\n", encoding="utf-8", errors="surrogateescape")
    assert read_log(log) == [{"step": 1, "loss": 2.0}]


def test_a_state_of_impossible_steps_is_named(tmp_path):
    from safetensors.numpy import save_file

    header = {"format": "edgesdk-training", "step": "9" * 5000, "settings": "{}"}
    save_file({"parameters['w']": np.ones(4, np.float32)}, tmp_path / STATE_FILE, header)
    with pytest.raises(CheckpointError, match="is no state of a training run"):
        load_run(tmp_path / STATE_FILE, RunState(3, {"w": jnp.ones(4)}, ()), {})


@pytest.mark.parametrize("name", ["target.json", "plan.json"])
def test_a_work_folder_that_is_nested_too_deep_is_one_line(tmp_path, name):
    (tmp_path / name).write_text("[" * 100_000)
    read = {
        "target.json": lambda: check_target(tmp_path / name, "tiny", "tiny 0"),
        "plan.json": lambda: plan_steps(None, 1.0, {}, Line(), tmp_path, ProgressMeter(None, [])),
    }
    with pytest.raises(CheckpointError, match="cannot be read"):
        read[name]()
