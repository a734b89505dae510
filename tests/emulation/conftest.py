"""An Arm computer made of qemu, Debian's arm64 packages and aarch64 wheels, built once and kept.

Nothing of it lies in the source tree: it goes to the folder that also keeps the real model between sessions.
Wheels are pinned by sha256 (arm_wheels.txt). Debian's packages cannot be, because a mirror drops each version
when the next security update comes; apt checks them against the archive's key instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WHEELS = HERE / "arm_wheels.txt"
CACHE = Path(os.environ.get("EDGESDK_TEST_CACHE", Path.home() / ".cache" / "edgesdk-tests"))
PACKAGES = (
    *("libc6", "libstdc++6", "libgcc-s1", "libcrypt1"),
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1"),
)
EMULATOR = "qemu-aarch64-static"
# Both runtimes crash where these are missing: they read the cores and their kinds before anything else.
CORES = "0-1\n"
CPUINFO = "".join(
    f"processor\t: {core}\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd0b\n"
    "CPU revision\t: 0\n\n"
    for core in range(2)
)
SECONDS = 600
"""For one run or one download, before it is given up."""

Run = Callable[[dict[str, object]], dict[str, object]]


class NotAvailableError(Exception):
    """Something that the emulation needs and this machine cannot get; the text is the reason to skip."""


def call(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that has to succeed."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailableError(str(error)) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotAvailableError(f"{Path(str(command[0])).name} failed: {last}")
    return done.stdout


def fetch_packages(folder: Path) -> None:
    """Downloads the arm64 packages, and the emulator for this machine where it has none, with apt.

    Lists and status are apt's own here: those of this machine neither know arm64 nor shall they change.
    """
    state = folder.parent / "apt"
    (state / "lists/partial").mkdir(parents=True)
    (state / "cache/archives/partial").mkdir(parents=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64,amd64",
        "APT::Sandbox::User": "root",  # the folder may be readable to its owner only
        "Acquire::Languages": "none",
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
    }
    apt = ["apt-get", "-q", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
    wanted = [f"{name}:arm64" for name in PACKAGES]
    if shutil.which(EMULATOR) is None:
        wanted.append("qemu-user-static:amd64")
    call(*apt, "update")
    call(*apt, "download", *wanted, cwd=folder)


def unpack_emulator(package: Path, target: Path) -> None:
    """Takes one of the forty emulators out of Debian's package."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if Path(member.name).name == EMULATOR and member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    target.write_bytes(content.read())
                    target.chmod(0o755)
                    break
        process.stdout.close()
    if not target.exists():
        raise NotAvailableError(f"{package.name} holds no {EMULATOR}")


def build(folder: Path) -> None:
    """Fills a folder with `root`, the Arm system, `site`, its Python packages, and the emulator."""
    packages, root = folder / "packages", folder / "root"
    packages.mkdir()
    fetch_packages(packages)
    for package in sorted(packages.glob("*_arm64.deb")):
        call("dpkg-deb", "-x", package, root)
    for package in packages.glob("qemu-user-static_*.deb"):
        unpack_emulator(package, folder / EMULATOR)
    cpu = root / "sys/devices/system/cpu"
    cpu.mkdir(parents=True)
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(CPUINFO)
    for name in ("possible", "present", "online"):
        (cpu / name).write_text(CORES)
    platforms = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
    call(
        *(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"),
        *("--target", folder / "site", "--only-binary=:all:", "--no-deps", "--require-hashes", "-r", WHEELS),
        *("--python-version", "3.11", "--implementation", "cp"),
        *(part for name in platforms for part in ("--platform", name)),
    )
    shutil.rmtree(packages)
    shutil.rmtree(folder / "apt")


def find_or_build() -> Path:
    """The folder of the Arm computer, built on first use; it appears whole or not at all."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise NotAvailableError(
            f"emulates Arm on x86-64 Linux, this is {platform.machine()} {platform.system()}"
        )
    wanted = hashlib.sha256(WHEELS.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    target = CACHE / f"arm-{wanted}"
    if not target.exists():
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise NotAvailableError(f"needs {tool} (Debian 12 or a system with its packages)")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="arm-", dir=CACHE) as partial:
            computer = Path(partial) / "computer"
            computer.mkdir()
            build(computer)
            if not target.exists():  # another session may have been faster
                computer.rename(target)
    return target


@pytest.fixture(scope="session")
def arm_python(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest):
    """Command and environment of a Python on emulated Arm that can import edgesdk from this tree."""
    if "arm" not in request.config.option.markexpr:
        pytest.skip("takes minutes and a download; run it with -m arm")
    try:
        computer = find_or_build()
        own = computer / EMULATOR
        emulator = own if own.exists() else shutil.which(EMULATOR)
        if emulator is None:
            raise NotAvailableError(f"{EMULATOR} is gone; delete {computer} or install qemu-user-static")
        root = computer / "root"
        # Without SVE, which most phones lack or hide.
        command = [str(part) for part in (emulator, "-cpu", "max,sve=off", "-L", root)]
        command.append(str(root / "usr/bin/python3.11"))
        environment = {
            "HOME": str(tmp_path_factory.mktemp("home")),
            "EDGESDK_CACHE": str(tmp_path_factory.mktemp("arm-cache")),
            "PYTHONPATH": f"{computer / 'site'}:{request.config.rootpath}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        call(*command, "-c", "import numpy", env=environment)
    except NotAvailableError as reason:
        pytest.skip(f"no Arm emulation: {reason}")
    return command, environment


def run_answer(command: list[str], environment: dict[str, str], request: dict[str, object]) -> dict:
    done = subprocess.run(
        [*command, str(HERE / "answer.py"), json.dumps(request)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def answer_on_arm(arm_python) -> Run:
    """Runs answer.py under emulation with a request, and returns what it says."""
    command, environment = arm_python
    return lambda request: run_answer(command, environment, request)


@pytest.fixture(scope="session")
def answer_here(request: pytest.FixtureRequest) -> Run:
    """The same on this machine's own processor."""
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath)}
    return lambda asked: run_answer([sys.executable], environment, asked)
