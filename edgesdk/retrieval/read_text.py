"""Reads the text of a file: plain, Markdown, HTML or PDF.

Files are the user's, but not of his making: sizes are bounded before a library sees them, and what a library
raises is one line about that file.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import MissingExtra, RetrievalError, first_line

MOST_BYTES = 64 << 20
_MOST_PAGES = 20_000
_MOST_CHARACTERS = 64 << 20
_MOST_TAGS = 200_000
"""Of HTML: each takes kilobytes while it is read."""
_TITLE = 200
_BLANK = re.compile(r"[ \t\r\f\v]+")
_GAP = re.compile(r"\n\s*\n+")
_NOT_TEXT = ("title", "script", "style", "noscript", "template", "svg", "nav")
_BLOCKS = (
    *("p", "div", "section", "article", "li", "tr", "table", "ul", "ol", "dl", "dt", "dd", "pre"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "figure", "figcaption", "header", "footer", "main"),
)


@dataclass(frozen=True)
class Text:
    """The text of a file.

    Attributes:
        title: its own title, else its name without the suffix.
        text: without marks of HTML; Markdown stays as it is.
        markdown: whether headings are those of Markdown.
    """

    title: str
    text: str
    markdown: bool = False


def read_text(path: Path) -> Text:
    """Reads a file by the kind that its suffix says.

    Raises:
        RetrievalError: it is no plain file, too large, of no kind that is read, or damaged.
        MissingExtra: what reads its kind is not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RetrievalError(f"no reader for {path.suffix or 'a name without a suffix'}; texts are {KINDS}")
    try:
        if not path.is_file():
            raise RetrievalError("it is no plain file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RetrievalError(error.strerror or first_line(error)) from error
    if len(data) > MOST_BYTES:
        raise RetrievalError(f"it has more than {MOST_BYTES >> 20} MiB; split it")
    found = reader(path, data)
    if len(found.text) > _MOST_CHARACTERS:
        raise _too_long()
    return Text(_whole(found.title), _whole(found.text), found.markdown)


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The files of given files and folders, in order of their names, each once.

    Of folders, files of other kinds, hidden ones and links are passed over.

    Raises:
        RetrievalError: a path that was given is not there.
    """
    return list(dict.fromkeys(_walk([Path(os.path.abspath(path)) for path in paths])))


def no_text(paths: Sequence[Path]) -> RetrievalError:
    """The error of whoever gave paths in which no text is."""
    where = ", ".join(str(path) for path in paths[:3]) or "no path"
    return RetrievalError(f"no text is in {where}; texts are {KINDS}")


def _walk(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
        elif path.is_dir():
            for folder, folders, files in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(files):
                    file = Path(folder, name)
                    if file.suffix.lower() in _READERS and not name.startswith(".") and not file.is_symlink():
                        yield file
        else:
            raise RetrievalError(f"{path} is not there, expected a file or a folder of texts")


def _plain(path: Path, data: bytes) -> Text:
    return Text(path.stem, _decoded(data))


def _markdown(path: Path, data: bytes) -> Text:
    text = _decoded(data)
    heading = re.search(r"^# +(.+)$", text, re.MULTILINE)
    return Text((heading[1].strip() if heading else "")[:_TITLE] or path.stem, text, markdown=True)


def _html(path: Path, data: bytes) -> Text:
    try:
        from bs4 import BeautifulSoup
        from bs4.element import CData, NavigableString, Tag
    except ImportError as error:
        raise MissingExtra("beautifulsoup4", "retrieval") from error
    if data.count(b"<") > _MOST_TAGS:
        raise RetrievalError(f"its HTML has more than {_MOST_TAGS} tags; split it")
    pieces: list[str] = []
    try:
        soup = BeautifulSoup(data, "html.parser")
        title = soup.title.get_text(" ", strip=True) if soup.title else ""
        # One walk, and no change of the tree: finding a place in it takes as long as it is wide or deep.
        within: list[Tag] = [soup]
        hidden = 0
        for node in soup.descendants:
            while within[-1] is not node.parent:
                left = within.pop()
                hidden -= left.name in _NOT_TEXT
                pieces.append("\n\n" if left.name in _BLOCKS else "")
            if isinstance(node, Tag):
                within.append(node)
                hidden += node.name in _NOT_TEXT
                pieces.append("\n\n" if node.name in _BLOCKS else "\n" if node.name == "br" else "")
            elif not hidden and type(node) in (NavigableString, CData):
                pieces.append(str(node))
        text = "".join(pieces)
    except (RecursionError, ValueError, AssertionError) as error:
        raise RetrievalError(f"its HTML cannot be read: {first_line(error)}") from error
    lines = (_BLANK.sub(" ", line).strip() for line in text.splitlines())
    return Text(title[:_TITLE] or path.stem, _GAP.sub("\n\n", "\n".join(lines)).strip())


def _pdf(path: Path, data: bytes) -> Text:
    try:
        import pypdf
    except ImportError as error:
        raise MissingExtra("pypdf", "retrieval") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it repairs on the way is nobody's concern
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise RetrievalError("it is encrypted; save it without a password")
        if len(reader.pages) > _MOST_PAGES:
            raise RetrievalError(f"it has more than {_MOST_PAGES} pages; split it")
        pages: list[str] = []
        left = _MOST_CHARACTERS
        for page in reader.pages:
            pages.append(page.extract_text())
            left -= len(pages[-1])
            if left < 0:
                raise _too_long()
        title = str((reader.metadata and reader.metadata.title) or "").strip()
    except RetrievalError:
        raise
    except Exception as error:  # whatever a damaged file makes of the parser
        raise RetrievalError(f"its PDF cannot be read: {first_line(error)}") from error
    text = "\n\n".join(pages)
    if not text.strip():
        raise RetrievalError("it holds no text, perhaps pictures of pages; recognise its letters first")
    return Text(title[:_TITLE] or path.stem, text)


def _too_long() -> RetrievalError:
    return RetrievalError(f"its text has more than {_MOST_CHARACTERS >> 20} Mi characters; split it")


def _whole(text: str) -> str:
    """A text whose half characters, which PDFs may hold, are U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _decoded(data: bytes) -> str:
    """Text of a file: UTF-8, UTF-16 by its mark.

    Raises:
        RetrievalError: it is neither.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise RetrievalError("it is no UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise RetrievalError("it holds zero bytes, so it is no text")
    return text


_READERS: dict[str, Callable[[Path, bytes], Text]] = {
    ".txt": _plain,
    ".text": _plain,
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
KINDS = ", ".join(_READERS)
