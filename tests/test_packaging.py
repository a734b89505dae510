"""What `pip install` puts down: the wheel runs a bundle and shadows nobody; the source is whole."""

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(kind, out):
    """A distribution, made by this environment's setuptools from a copy, so that no build folder is left."""
    # Asked, not imported: it refuses to where another library has imported distutils before.
    if int(version("setuptools").partition(".")[0]) < 78:
        pytest.skip("builds with setuptools 78")
    code = f"from setuptools.build_meta import build_{kind} as build; print(build({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out.parent / "copy", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


def tracked():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs the repository")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaging")
    for name in tracked():
        target = folder / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    (folder / "dist").mkdir()
    return folder


@pytest.fixture(scope="module")
def wheel(place):
    return build("wheel", place / "dist")


def test_the_wheel_has_two_packages_and_all_their_files(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in inside} == {"edgesdk", "edgesdk_converters"}
    kept = {
        name.removeprefix("converters/")
        for name in tracked()
        if name.startswith(("edgesdk/", "converters/")) and not name.endswith(".md")
    }
    assert inside == kept


def test_the_source_distribution_is_whole(place):
    with tarfile.open(build("sdist", place / "dist")) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    # What only the repository's host reads.
    wanted = {name for name in tracked() if not name.startswith((".github/", ".gitignore"))}
    assert sorted(wanted - inside) == []


def test_what_the_wheel_installs_runs_a_bundle(wheel, converted_once, tmp_path):
    """Away from the repository, with nothing of it on the path."""
    targets = ("litert", "onnx", "onnx-step")
    bundle = converted_once(ROOT / "tests/data/tiny/llama", targets=targets, recipes=("f32",), context=64)
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = (
        "import edgesdk; print(edgesdk.__file__)\n"
        f"with edgesdk.load({str(bundle)!r}) as model:\n"
        "    print(len(model.generate([1, 2], max_tokens=3).tokens))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    where, count = done.stdout.split()
    assert Path(where).is_relative_to(installed)
    assert count == "3"
