"""The documentation as a site: it builds without warnings and without a network, and leaves nothing out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgesdk

pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
inventory = pytest.importorskip("mkdocstrings", reason="needs the extra 'docs'")

ROOT = Path(__file__).parents[2]

NO_NETWORK = """
import runpy, socket, sys

def refuse(*_, **__):
    raise OSError("the site is built without a network")

socket.socket.connect = socket.getaddrinfo = refuse
sys.argv = ["mkdocs", *sys.argv[1:]]
runpy.run_module("mkdocs", run_name="__main__")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", NO_NETWORK, "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_public_name_has_a_place(site):
    with (site / "objects.inv").open("rb") as stream:
        found = set(inventory.Inventory.parse_sphinx(stream))
    names = [name for name in edgesdk.__all__ if name != "__version__"]
    documented = {place.rpartition(".")[2] for place in found if place.startswith("edgesdk.")}
    assert sorted(set(names) - documented) == []


def test_pages_fetch_nothing(site):
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*\shref=\"(?:https?:)?//[^>]*stylesheet"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []


def test_the_first_page_says_what_the_readme_says():
    readme, index = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/index.md"))
    command = re.search(r"^pip install .*demo$", readme, re.MULTILINE)
    assert command is not None
    assert command[0] in index


def test_every_decision_is_listed():
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "index.md").read_text(encoding="utf-8")
    for path in sorted(folder.glob("0*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert f"[{title}]({path.name})" in listed
