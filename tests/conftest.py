"""Fixtures for every test: a cache of its own, the real model, fetched once, and bundles converted once.

Where pytest-xdist is installed, the whole suite is run by two processes; a part of it, named on the command
line, by one. Files go to a process as a whole, those that run the real model first, since they take longest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

REAL_CACHE = Path(os.environ.get("EDGESDK_TEST_CACHE", Path.home() / ".cache" / "edgesdk-tests"))
PROCESSES = 2
"""Each holds at most one real model, which takes up to 3 GB while it is calibrated."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Has the whole suite run by several processes, unless the command line chooses (`-n 0` for one)."""
    if hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist"):
        return  # it is one of the processes, or there can be none
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    alone = config.option.usepdb or config.option.collectonly or config.option.numprocesses is not None
    if whole and not alone and len(_cores()) >= PROCESSES:
        config.option.numprocesses = PROCESSES
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False  # by the number of tests, which says little of their time


def pytest_configure(config: pytest.Config) -> None:
    """Gives each of several processes cores of its own, so that their runtimes do not fight over all.

    Ctrl-C works in whatever tests start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that starts tests in the background has it ignored, and processes of theirs inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = getattr(config, "workerinput", None)
    if worker is not None and hasattr(os, "sched_setaffinity"):
        count, own = worker["workercount"], int(worker["workerid"].removeprefix("gw"))
        cores = _cores()
        if len(cores) >= count:
            os.sched_setaffinity(0, cores[own % count :: count])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where files are handed out, puts those with the real model first: what is long must not come last.

    The longest of them are tests of the whole house, whose files come after all folders: so, from the end.
    """
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if item.get_closest_marker("real")}
        order = {path: place for place, path in enumerate(sorted(long, reverse=True))}
        items.sort(key=lambda item: order.get(item.path, len(order)))


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Tests touch neither the user's cache nor their models; only the downloaded model outlives them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESDK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EDGESDK_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _few_questions():
    """Conversions ask 8 of the 100 questions: hundreds of tiny models are converted here."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            from edgesdk_converters.parity import answer_questions as module
        except ImportError:  # without the extra `convert` nothing is converted
            yield
            return
        all_of_them = module.questions
        patch.setattr(module, "questions", lambda: all_of_them()[:8])
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def smollm2_gguf(_own_cache, shared_folder: Path) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, checked by sha256, kept between sessions."""
    from edgesdk_converters.checkpoints.default_model import fetch_default_model

    with pytest.MonkeyPatch.context() as patch, FileLock(shared_folder / "model.lock"):
        patch.setenv("EDGESDK_CACHE", str(REAL_CACHE))
        return fetch_default_model("smollm2-135m")


@pytest.fixture(scope="session")
def glassllm(_own_cache, shared_folder: Path) -> Callable[[str], Path]:
    """`glassllm("en")` or `("pt")`: a small trained model as a Hugging Face folder, fetched once, checked."""
    pytest.importorskip("safetensors", reason="needs the extra 'dev'")
    from edgesdk_converters.checkpoints import named_models
    from edgesdk_converters.checkpoints.default_model import fetch_default_model
    from tests.data.glassllm_folder import FILES, write_glassllm

    def folder_of(language: str) -> Path:
        folder = shared_folder / f"glassllm-{language}"
        with pytest.MonkeyPatch.context() as patch, FileLock(shared_folder / "glassllm.lock"):
            for name, file in FILES.items():
                patch.setitem(named_models.NAMED_MODELS, name, file)
            if not folder.exists():
                weights, tokenizer = (
                    fetch_default_model(f"{language}.{end}", REAL_CACHE) for end in ("npz", "tokenizer.json")
                )
                write_glassllm(weights, tokenizer, folder)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def converted_once(_own_cache, shared_folder: Path) -> Iterator[Callable[..., Path]]:
    """Bundles that many tests read and none writes: `converted_once(source, **options)`, by `ConvertOptions`.

    The first who asks for a source with these options converts it, for every process of the run.
    """
    given: dict[Path, dict[str, tuple[int, int]]] = {}

    def make(source: str | Path, **options: object) -> Path:
        pytest.importorskip("onnx", reason="needs the extra 'convert'")
        from edgesdk_converters.convert import ConvertOptions, convert

        chosen = ConvertOptions(**options)
        key = hashlib.sha256(f"{Path(source).resolve()} {chosen}".encode()).hexdigest()[:16]
        bundle = shared_folder / key / "bundle"
        with FileLock(shared_folder / f"{key}.lock"):
            if not bundle.exists():  # a bundle appears whole
                convert(str(source), bundle, chosen)
        given.setdefault(bundle, _stamps(bundle))
        return bundle

    yield make
    changed = [str(bundle) for bundle, stamps in given.items() if _stamps(bundle) != stamps]
    assert not changed, "a test has written into a bundle that others read"


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


@pytest.fixture(scope="session")
def short_text(shared_folder: Path) -> Path:
    """A calibration text for tests that need calibrated weights, not good ones: a tenth of the time."""
    from edgesdk_converters.quantise import calibration

    prose = (Path(calibration.__file__).parent / "prose.txt").read_text(encoding="utf-8")
    path = shared_folder / "calibration.txt"
    with FileLock(shared_folder / "calibration.lock"):
        if not path.exists():
            path.write_text(prose[:4000], encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def smollm2_float(smollm2_gguf: Path, converted_once: Callable[..., Path]) -> Path:
    """The real model in float32, in the formats that run on a CPU."""
    targets = ("litert", "onnx", "onnx-step")
    return converted_once(smollm2_gguf, targets=targets, recipes=("f32",), context=512, prove=False)


@pytest.fixture(scope="session")
def other_mixers():
    """`other_mixers(spec, **changes)`: a decoder with other attention in every block."""

    def make(spec, **changes):
        blocks = (dataclasses.replace(b, mixer=dataclasses.replace(b.mixer, **changes)) for b in spec.blocks)
        return dataclasses.replace(spec, blocks=tuple(blocks))

    return make
