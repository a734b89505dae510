"""A few inputs of every target, and the frame that counts them."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from edgesdk.errors import BundleError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the frame needs alarms")

FEW = 150
SLOW = ("checkpoint folder", "Core ML package", "parity.npz")


@pytest.fixture(scope="module")
def fuzz(benchmark_module):
    for package in ("ai_edge_litert", "onnx", "gguf", "coremltools"):
        pytest.importorskip(package, reason="needs the extras 'convert' and 'coreml'")
    return benchmark_module("fuzz")


def test_no_target_finds_anything(fuzz):
    targets = fuzz.find_targets()
    assert len(targets) >= 15
    for name, target in targets.items():
        ends = {}
        for number in range(FEW // 5 if name in SLOW else FEW):
            outcome, reason = fuzz.try_one(target, name, number)
            assert outcome in (fuzz.TAKEN, fuzz.REFUSED), f"{name} {number}: {outcome}: {reason}"
            ends[outcome] = ends.get(outcome, 0) + 1
        assert ends.get(fuzz.REFUSED), f"nothing was refused by {name}"


def test_equal_seeds_make_equal_inputs(fuzz, benchmark_module):
    damage = benchmark_module("fuzz_targets.damage")
    for number in range(20):
        first, second = (random.Random(f"x:{number}") for _ in range(2))
        assert damage.damaged(first, bytes(100)) == damage.damaged(second, bytes(100))
        document = {"a": [1, 2, {"b": "c"}], "d": None}
        assert repr(damage.odd_json(first, document)) == repr(damage.odd_json(second, document))
        assert document == {"a": [1, 2, {"b": "c"}], "d": None}


def test_what_ends_an_input_is_told_apart(fuzz):
    def refuse(draw):
        raise BundleError("no")

    def lines(draw):
        raise BundleError("no\nno")

    def other(draw):
        raise KeyError("x")

    def panic(draw):
        raise BaseException("x")

    def wrong(draw):
        raise AssertionError

    ends = [
        fuzz.try_one(target, "x", 0)[0] for target in (lambda d: None, refuse, lines, other, panic, wrong)
    ]
    assert ends == [fuzz.TAKEN, fuzz.REFUSED, fuzz.OTHER, fuzz.OTHER, fuzz.OTHER, fuzz.WRONG]


ODD = """
import os, time
from edgesdk.errors import BundleError

def ends(draw):
    if draw.random() < 0.22:
        os._exit(3)

def waits(draw):
    if draw.random() < 0.3:
        time.sleep(60)

TARGETS = {"ends": ends, "waits": waits}
"""


def test_a_crash_or_a_hang_is_counted_and_the_rest_goes_on(fuzz, tmp_path):
    expected = sum(random.Random(f"ends:{n}").random() < 0.22 for n in range(20))
    done = _run(fuzz, tmp_path, "ends", 20)
    assert done["crash"] == expected > 0
    assert sum(done.values()) == 20
    hangs = sum(random.Random(f"waits:{n}").random() < 0.3 for n in range(3, 5))
    done = _run(fuzz, tmp_path, "waits", 2, seed=3)
    assert done.get("hang", 0) == hangs
    assert sum(done.values()) == 2


def _run(fuzz, folder, name, count, seed=0):
    """The frame in a process whose `fuzz_targets` has other targets, as its children will have."""
    script = folder / "fuzz_odd.py"
    script.write_text(
        f"import sys\nsys.path[:0] = [{str(Path(fuzz.__file__).parent)!r}]\n"
        f"import fuzz_targets\nfuzz_targets.__path__ = [{str(folder / 'only')!r}]\n"
        "import fuzz\nfuzz.HANG_S = 1\n"
        "if __name__ == '__main__':\n    fuzz.main()\n",
        encoding="utf-8",
    )
    (folder / "only").mkdir(exist_ok=True)
    (folder / "only" / "odd.py").write_text(ODD, encoding="utf-8")
    out = folder / "out.json"
    command = [sys.executable, script, "--target", name, "--count", count, "--seed", seed, "--json", out]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(out.read_text(encoding="utf-8"))[0]["outcomes"]
