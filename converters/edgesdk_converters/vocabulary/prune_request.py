"""The grammar of `--prune-vocab`: which sample speaks for the texts to come, and how far to go.

    corpus=FILE[,corpus=FILE...][,size=N | ,coverage=X]
    language=CODE[,size=N | ,coverage=X]
    tokens=FILE
    ...,output-only

`size` is the new vocabulary's, all in; `coverage` the share of the sample's tokens that must stay whole.
`output-only` prunes the head and leaves the input vocabulary as it is.
It reads no file and knows no tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import UnsupportedOption

_OUTPUT_ONLY = "output-only"
_KEYS = ("corpus", "language", "tokens", "size", "coverage")
_GRAMMAR = "expected for example corpus=FILE,size=16000 or language=en,coverage=0.99 or tokens=FILE"


@dataclass(frozen=True)
class PruneRequest:
    """What to keep.

    Attributes:
        corpus: text files that show what will be written.
        language: a code such as `en`, in place of files.
        tokens: a JSON list of token ids and token texts to keep.
        size: tokens of the new vocabulary.
        coverage: share of the sample's tokens, above 0, at most 1.
        output_only: prune the head alone.
    """

    corpus: tuple[Path, ...] = ()
    language: str | None = None
    tokens: Path | None = None
    size: int | None = None
    coverage: float | None = None
    output_only: bool = False

    def __post_init__(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            UnsupportedOption: in one line.
        """
        if sum((bool(self.corpus), self.language is not None, self.tokens is not None)) != 1:
            raise UnsupportedOption(f"prune-vocab needs one of corpus, language and tokens; {_GRAMMAR}")
        if self.size is not None and self.coverage is not None:
            raise UnsupportedOption("prune-vocab has both size and coverage; give one of them")
        if self.tokens is not None and (self.size is not None or self.coverage is not None):
            raise UnsupportedOption(
                "prune-vocab with tokens keeps exactly those; leave out size and coverage"
            )
        if self.size is not None and self.size < 1:
            raise UnsupportedOption(f"prune-vocab has size={self.size}, expected at least 1")
        if self.coverage is not None and not 0 < self.coverage <= 1:
            raise UnsupportedOption(
                f"prune-vocab has coverage={self.coverage:g}, expected above 0, at most 1"
            )

    def describe(self) -> str:
        """The request in its grammar, with file names in place of paths."""
        parts = [f"corpus={path.name}" for path in self.corpus]
        parts += [] if self.language is None else [f"language={self.language}"]
        parts += [] if self.tokens is None else [f"tokens={self.tokens.name}"]
        parts += [] if self.size is None else [f"size={self.size}"]
        parts += [] if self.coverage is None else [f"coverage={self.coverage:g}"]
        parts += ["output-only"] if self.output_only else []
        return ",".join(parts)


def parse_prune_option(text: str) -> PruneRequest:
    """Parses the value of `--prune-vocab`.

    Args:
        text: in the grammar above.

    Raises:
        UnsupportedOption: it is not in that grammar.
    """
    corpus: list[Path] = []
    given: dict[str, str] = {}
    parts = [part.strip() for part in text.split(",")]
    output_only = _OUTPUT_ONLY in parts
    if output_only:
        parts.remove(_OUTPUT_ONLY)
    for part in parts:
        key, separator, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if key not in _KEYS or not separator or not value:
            raise UnsupportedOption(f"prune-vocab has {part[:60]!r}; {_GRAMMAR}")
        if key == "corpus":
            corpus.append(Path(value))
        elif key in given:
            raise UnsupportedOption(f"prune-vocab has {key} twice; give it once")
        else:
            given[key] = value
    return PruneRequest(
        corpus=tuple(corpus),
        language=given["language"].lower() if "language" in given else None,
        tokens=Path(given["tokens"]) if "tokens" in given else None,
        size=_whole(given["size"]) if "size" in given else None,
        coverage=_share(given["coverage"]) if "coverage" in given else None,
        output_only=output_only,
    )


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UnsupportedOption(f"prune-vocab has size={text[:40]}, expected a whole number of tokens")
    return int(text)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UnsupportedOption(
            f"prune-vocab has coverage={text[:40]}, expected a share such as 0.99"
        ) from None
