"""The folder that PyInstaller makes runs where there is no Python.

EDGESDK_PACKAGED names a folder that package.py has made; without it one is made here, which takes minutes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the folder without Python is a chroot")
ROOT = Path(__file__).parents[3]
SYSTEM = ("lib", "lib64", "usr/lib", "usr/share/fonts", "etc/fonts", "dev", "proc")
"""What a Linux without Python has; there is no usr/bin."""

ENTER = """
set -e
for part in {system}; do
  [ -e /$part ] || continue
  mkdir -p {root}/$part
  mount --rbind /$part {root}/$part
done
mkdir -p {root}/packed {root}/bundle {root}/home {root}/tmp
mount --bind {packed} {root}/packed
mount --bind {bundle} {root}/bundle
exec env -i HOME=/home QT_QPA_PLATFORM=offscreen EDGESDK_MODELS=/home/shelf {chroot} {root} /packed/chat "$@"
"""


@pytest.fixture(scope="session")
def packed(app, tmp_path_factory):
    pytest.importorskip("PyInstaller", reason="needs the extra 'desktop'")
    given = os.environ.get("EDGESDK_PACKAGED")
    if given:
        return Path(given) / "chat"
    out = tmp_path_factory.mktemp("packed")
    command = [sys.executable, str(ROOT / "examples/desktop_chat/package.py"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert " MB" in done.stdout
    return out / "chat"


@pytest.fixture
def run(packed, bundle, tmp_path):
    """Runs the program in a root without Python, or, where nobody may make one, with none in reach."""
    root, chroot = tmp_path / "root", shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin")
    script = ENTER.format(system=" ".join(SYSTEM), root=root, packed=packed, bundle=bundle, chroot=chroot)
    may = (
        chroot is not None and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    )

    def call(*arguments):
        if may:
            command = ["unshare", "-m", "bash", "-c", script, "bash", *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=300)
        environment = {
            "HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen", "EDGESDK_MODELS": str(tmp_path / "shelf")
        }  # fmt: skip
        named = [str(bundle) if each == "/bundle" else each for each in arguments]
        command = [str(packed / "chat"), *named]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)

    return call


def test_it_answers(run, tmp_path):
    done = run("/bundle", "--ask", "x", "--quit")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(("whole", "cut after"))


def test_parts_of_edgesdk_run_in_processes_of_its_own(run):
    """Without freeze_support each would open a window, which loads a model and starts the next."""
    done = run("--edgesdk-python", "-m", "edgesdk", "add", "/bundle", "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert "mine" in done.stdout
    probed = run("--edgesdk-python", "-m", "edgesdk", "devices", "--json")
    assert '"usable": true' in probed.stdout
