"""Opens bundles with damaged models in child processes, and counts how they end.

    python benchmarks/fuzz_payloads.py [--kind NAME] [--count 500] [--seed 0] [--unchecked] [--json FILE]

Digests are written anew after every damage, as a stranger would: what is tried is what stands behind them,
our checks and then the runtime. A child opens the bundle and computes a few tokens; damaged weights are
other numbers, and no fault. `--unchecked` leaves our checks of LiteRT and ONNX files out, which shows what
they are for. A crash is one inside another library: its input is made anew from its kind and number, and
written nowhere. Status 1 if a child crashed, hung, or ended in another error than ours.
"""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import click
import numpy as np
from fuzz_targets.damage import TINY, damaged, scratch

import edgesdk
from edgesdk.backends import check_variant as checks
from edgesdk.errors import EdgeError

HANG_S = 20
TOKENS = np.array([5, 9, 4, 7], np.int32)
REFUSED, SAME, OTHER_NUMBERS, OTHER_ERROR = "refused", "same answer", "other numbers", "other error"
CRASH, HANG = "crash", "hang"
OUTCOMES = (REFUSED, SAME, OTHER_NUMBERS, OTHER_ERROR, CRASH, HANG)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is damaged, and what opens it.

    Attributes:
        target: of the conversion.
        recipe: of the conversion.
        file: inside the variant's folder.
        backend: that opens it.
    """

    target: str
    recipe: str
    file: str
    backend: str


KINDS = {
    "LiteRT, f32": Kind("litert", "f32", "model.tflite", "litert"),
    "LiteRT, w8": Kind("litert", "w8-round", "model.tflite", "litert"),
    "LiteRT, interpreter": Kind("litert-static", "w8-round", "model.tflite", "litert-interpreter"),
    "ONNX, model": Kind("onnx", "w8-round", "model.onnx", "onnxruntime"),
    "ONNX, data": Kind("onnx", "w8-round", "model.onnx.data", "onnxruntime"),
    "ONNX, step": Kind("onnx-step", "f32", "step_1_64.onnx", "onnxruntime-step"),
    "genai, model": Kind("onnx", "w8-round", "model.onnx", "onnxruntime_genai"),
    "genai, configuration": Kind("onnx", "w8-round", "genai_config.json", "onnxruntime_genai"),
}


class Payload:
    """A bundle of one kind, converted once, and the answer that it gives whole."""

    def __init__(self, name: str) -> None:
        from edgesdk_converters.convert import ConvertOptions, convert

        self.kind, self.name = KINDS[name], name
        options = ConvertOptions((self.kind.target,), (self.kind.recipe,), 64, prove=False)
        folder = scratch() / name.replace(" ", "").replace(",", "-")
        self._bundle = convert(str(TINY / "llama"), folder, options)
        document = json.loads((self._bundle / "manifest.json").read_text(encoding="utf-8"))
        entry = Path(document["variants"][0]["entry"])
        self._file = os.path.normpath(entry.parent / self.kind.file)
        self._whole = (self._bundle / self._file).read_bytes()
        self._document = document

    def write(self, draw: random.Random) -> Path:
        """The bundle with a damaged file, and digests that say so."""
        data = damaged(draw, self._whole)
        (self._bundle / self._file).write_bytes(data)
        record = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        self._document["files"][self._file] = record
        (self._bundle / "manifest.json").write_text(json.dumps(self._document), encoding="utf-8")
        return self._bundle

    def answer(self) -> np.ndarray:
        """Logits after a few tokens."""
        with edgesdk.load(self._bundle, backend=self.kind.backend, threads=1) as model:
            return np.array(model.new_sequence().extend(TOKENS))

    def restore(self) -> None:
        """The whole file again."""
        (self._bundle / self._file).write_bytes(self._whole)


def run_child(payload: Payload, expected: np.ndarray) -> tuple[str, str]:
    """Opens the bundle as it is now in a child; its outcome, and what it said."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = 3
        try:
            code = 0 if np.array_equal(payload.answer(), expected) else 2
        except EdgeError as error:
            os.write(writer, str(error)[:300].encode(errors="replace"))
            code = 1
        except BaseException:  # noqa: BLE001 - whatever a library raises is an outcome
            os.write(writer, traceback.format_exc(limit=-1)[-300:].encode(errors="replace"))
        finally:
            os._exit(code)
    os.close(writer)
    ended = _wait(child)
    with os.fdopen(reader, "rb") as said:
        text = said.read()
    if ended is None:
        return HANG, f"more than {HANG_S} s"
    if os.WIFSIGNALED(ended):
        return CRASH, signal.Signals(os.WTERMSIG(ended)).name
    code = os.waitstatus_to_exitcode(ended)
    return {0: SAME, 1: REFUSED, 2: OTHER_NUMBERS}.get(code, OTHER_ERROR), text.decode(errors="replace")


def _wait(child: int) -> int | None:
    """How a child ended; None where it had to be ended."""
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def expected_of(payload: Payload) -> np.ndarray:
    """The answer of the whole bundle, computed in a child: this process must never have loaded a model."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, payload.answer().astype(np.float32).tobytes())
            code = 0
        except BaseException:  # noqa: BLE001 - the parent is told by the status
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        data = said.read()
    if os.waitpid(child, 0)[1]:
        raise click.ClickException(f"the whole bundle of {payload.name!r} gives no answer")
    return np.frombuffer(data, np.float32)


def preload() -> None:
    """Imports the runtimes, so that a child only opens a model."""
    import onnxruntime  # noqa: F401
    import onnxruntime_genai  # noqa: F401
    from ai_edge_litert import compiled_model, interpreter  # noqa: F401


@click.command(help=__doc__)
@click.option("--kind", "names", multiple=True, help="One kind; several times for several. Default: all.")
@click.option("--count", default=500, show_default=True, help="Children of each kind.")
@click.option("--seed", default=0, show_default=True, help="Number of the first input.")
@click.option("--unchecked", is_flag=True, help="Leave our own checks of the files out.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures there.")
def main(names: tuple[str, ...], count: int, seed: int, unchecked: bool, out: Path | None) -> None:
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise click.UsageError(f"kind {unknown[0]!r} is unknown; expected {', '.join(KINDS)}")
    os.environ["EDGESDK_CACHE"] = str(scratch() / "cache")
    preload()
    if unchecked:
        checks.check_variant = lambda bundle, variant: None
    totals: dict[str, Counter[str]] = {}
    said: dict[str, Counter[str]] = {}
    print(f"{'kind':22} {'children':>8} {'ms each':>8} " + " ".join(f"{name:>13}" for name in OUTCOMES))
    for name in names or KINDS:
        payload = Payload(name)
        expected = expected_of(payload)
        found, reasons, began = Counter[str](), Counter[str](), time.monotonic()
        for number in range(seed, seed + count):
            payload.write(random.Random(f"{name}:{number}"))
            outcome, reason = run_child(payload, expected)
            found[outcome] += 1
            if outcome in (CRASH, HANG, OTHER_ERROR):
                reasons[f"{outcome}: {reason.splitlines()[-1] if reason else ''} (first {number})"] += 1
            shutil.rmtree(scratch() / "cache", ignore_errors=True)
        totals[name], said[name] = found, reasons
        each = (time.monotonic() - began) * 1e3 / count
        print(
            f"{name:22} {count:>8} {each:>8.0f} " + " ".join(f"{found[o]:>13}" for o in OUTCOMES), flush=True
        )
        payload.restore()
    total = sum(totals.values(), Counter[str]())
    print(f"{'all':22} {sum(total.values()):>8} {'':>8} " + " ".join(f"{total[o]:>13}" for o in OUTCOMES))
    for name, reasons in said.items():
        for reason, times in reasons.most_common(5):
            print(f"  {name}: {times} x {reason}")
    if out is not None:
        out.write_text(json.dumps(totals, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if any(total[fault] for fault in (CRASH, HANG, OTHER_ERROR)) else 0)


if __name__ == "__main__":
    main()
