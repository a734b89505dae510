"""Texts with known labels: read from a file, and which of them stand in the prompt as examples."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import UnsupportedOption, quoted

_MOST_TEXTS = 100_000
_MOST_LINE = 1 << 16
_MOST_CHARACTERS = 64 << 20


@dataclass(frozen=True)
class LabelledText:
    """A text whose label is known."""

    text: str
    label: str


def read_labelled(path: Path) -> list[LabelledText]:
    """Reads JSON lines: {"text": "...", "label": "..."}.

    Raises:
        UnsupportedOption: it cannot be read or has no texts, or a line is something else.
    """
    found: list[LabelledText] = []
    characters = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE), ""), 1):
                if line.strip():
                    found.append(_text(path, number, line))
                characters += len(line)
                if characters > _MOST_CHARACTERS:
                    raise UnsupportedOption(
                        f"{path} has more than {_MOST_CHARACTERS >> 20} million characters; give fewer texts"
                    )
                if len(found) > _MOST_TEXTS:
                    raise UnsupportedOption(f"{path} has more than {_MOST_TEXTS} texts; give fewer")
    except OSError as error:
        raise UnsupportedOption(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnsupportedOption(f"{path} is no UTF-8 text (byte {error.start}); convert it first") from error
    if not found:
        raise UnsupportedOption(
            f'{path} has no texts; expected lines such as {{"text": "Dull.", "label": "negative"}}'
        )
    return found


def _text(path: Path, number: int, line: str) -> LabelledText:
    try:
        document = json.loads(line)
        json.dumps(document, ensure_ascii=False).encode()  # a text with half a character is none
        text, label = document["text"], document["label"]
        if isinstance(text, str) and text.strip() and isinstance(label, str) and label.strip():
            return LabelledText(text.strip(), label.strip())
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UnsupportedOption(f'{path}:{number} is no line such as {{"text": "Dull.", "label": "negative"}}')


def pick_shots(
    texts: Sequence[LabelledText], shots: int, seed: int
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Takes examples of each label out of a task, in turn, and shuffles the rest.

    Raises:
        UnsupportedOption: a label has too few.
    """
    rest = list(texts)
    random.Random(seed).shuffle(rest)
    labels = sorted({each.label for each in texts})
    places: dict[str, list[int]] = {label: [] for label in labels}
    for place, each in enumerate(rest):
        places[each.label].append(place)
    few = next((label for label in labels if len(places[label]) < shots), None)
    if few is not None:
        raise UnsupportedOption(f"the label {quoted(few)} has fewer than {shots} texts; lower --shots")
    chosen = [places[label][shot] for shot in range(shots) for label in labels]
    taken = set(chosen)
    return [rest[place] for place in chosen], [each for i, each in enumerate(rest) if i not in taken]
