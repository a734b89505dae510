"""What `edgesdk vocab adapt` may be asked for, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.vocabulary.adapt.initialise import Init, check_init

_LEAST = 300
MOST_TOKENS = 1_000_000
_MOST_BYTES = 1 << 30
_KINDS = (".txt", ".md")


@dataclass(frozen=True)
class AdaptRequest:
    """How a vocabulary is to be adapted.

    Attributes:
        corpus: texts of the language, none empty.
        init: how rows of new tokens begin.
        size: tokens of the new vocabulary; with `expand`, how many are added.
        expand: keep all tokens and add more, in place of a vocabulary of its own.
        tokenizer: tokenizer.json to take in place of a trained one; None to train.
        language: for the record.
        seed: of what is drawn.
    """

    corpus: tuple[Path, ...]
    init: Init = "mean"
    size: int = 24_000
    expand: bool = False
    tokenizer: Path | None = None
    language: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming it.
        """
        check_init(self.init)
        least = 1 if self.expand else _LEAST
        if not least <= self.size <= MOST_TOKENS:
            raise UnsupportedOption(f"size is {self.size}, expected {least} to {MOST_TOKENS} tokens")
        if self.tokenizer is not None and self.expand:
            raise UnsupportedOption("a tokenizer that is given is no expansion; leave one of the two out")
        if self.expand and self.init == "random":
            raise UnsupportedOption("init random copies nothing, so it cannot expand; take another")


def find_corpus(path: Path) -> tuple[Path, ...]:
    """The texts in a file or a folder, in order of their names.

    Raises:
        UnsupportedOption: there is none, or there is too much.
    """
    files = (
        (path,)
        if path.is_file()
        else tuple(
            sorted(file for file in path.rglob("*") if file.suffix.lower() in _KINDS and file.is_file())
        )
    )
    size = sum(file.stat().st_size for file in files)
    if not size:
        raise UnsupportedOption(
            f"no text is in {path}; expected a file, or a folder of {' and '.join(_KINDS)}"
        )
    if size > _MOST_BYTES:
        raise UnsupportedOption(f"{path} has more than {_MOST_BYTES >> 30} GiB of text; give a part of it")
    return files
