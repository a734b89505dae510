"""Labelled texts for early exits: human-scored sentiment in four kinds of text, and news told from fiction.

    movie, product, editorial, tweets   snippets scored by people (Hutto and Gilbert, ICWSM 2014), from the
                                        source archive of vaderSentiment 3.3.2, fetched with pip, pinned by
                                        sha256; scores within 0.8 of neutral are left out
    brown                               forty words each of the Brown corpus, press or fiction

Nothing of them is in the repository. The order never changes.
"""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import click
from texts import fetch_corpus, untag

from edgesdk.bundle.integrity import cache_folder
from edgesdk.vectors.labelled_texts import LabelledText

PACKAGE = "vaderSentiment==3.3.2"
PACKAGE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_FILES = {
    "movie": "movieReviewSnippets",
    "product": "amazonReviewSnippets",
    "editorial": "nytEditorialSnippets",
    "tweets": "tweets",
}
TASKS = (*_FILES, "brown")
INSTRUCTIONS = {
    **dict.fromkeys(_FILES, "Say whether each text is positive or negative."),
    "brown": "Say whether each text is from news or fiction.",
}
_NEUTRAL = 0.8
_SHORTEST = 15
_WORDS = 40


def read_task(name: str, count: int) -> list[LabelledText]:
    """So many texts of a task.

    Raises:
        click.ClickException: they cannot be fetched.
    """
    found = _brown() if name == "brown" else _sentiment(_FILES[name])
    random.Random(1).shuffle(found)
    return found[:count]


def _sentiment(file: str) -> list[LabelledText]:
    with tarfile.open(fileobj=io.BytesIO(_fetch_package()), mode="r:gz") as outer:
        inner = next(m for m in outer.getmembers() if m.name.endswith("hutto_ICWSM_2014.tar.gz"))
        packed = outer.extractfile(inner)
        assert packed is not None  # it is a file
        data = packed.read()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        member = archive.extractfile(f"hutto_ICWSM_2014/{file}_GroundTruth.txt")
        assert member is not None
        lines = member.read().decode("utf-8", "replace").splitlines()
    found = []
    for line in lines:
        _, score, text = line.split("\t", 2)
        if abs(float(score)) >= _NEUTRAL and len(text.strip()) >= _SHORTEST:
            found.append(LabelledText(text.strip(), "positive" if float(score) > 0 else "negative"))
    return found


def _brown() -> list[LabelledText]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(fetch_corpus(cache_folder() / "texts")), mode="r:gz") as archive:
        for member in archive.getmembers():
            name = Path(member.name).name
            label = "news" if name[:2] == "ca" else "fiction" if name[:2] in ("ck", "cl", "cn", "cp") else ""
            packed = archive.extractfile(member)
            if len(name) != 4 or not label or packed is None:
                continue
            words = untag(packed.read().decode("ascii", "replace")).split()
            cuts = range(0, min(len(words), 1200) - _WORDS, _WORDS)
            found.extend(LabelledText(" ".join(words[i : i + _WORDS]), label) for i in cuts)
    return found


def _fetch_package() -> bytes:
    target = cache_folder() / "texts" / "vaderSentiment-3.3.2.tar.gz"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
            done = subprocess.run(
                [*command, "-d", scratch, PACKAGE], capture_output=True, text=True, check=False
            )
            packed = sorted(Path(scratch).glob("*.tar.gz"))
            if done.returncode or not packed:
                raise click.ClickException(f"pip could not fetch {PACKAGE}; check the network")
            packed[0].replace(target)
    data = target.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != PACKAGE_SHA256:
        raise click.ClickException(
            f"{target} has the sha256 {found[:12]}..., expected {PACKAGE_SHA256[:12]}..."
        )
    return data
