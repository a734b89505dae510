"""Text that calibrated quantisation runs through a model: the built-in sample, or a user's file.

The built-in sample has eight domains (README.txt beside this file). Windows are taken from all domains
in turn, because activations differ most between kinds of text: chat tokens, code and digits reach
channels that prose leaves alone. It does not know what the windows are used for, and it reads neither
models nor tokenizers: the caller passes the functions that encode a text and render a conversation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption

Window = NDArray[np.int32]
Message = Mapping[str, str]
"""`role` and `content`."""

Encode = Callable[[str], Sequence[int]]
"""A tokenizer; it may put the model's start token first."""

Render = Callable[[Sequence[Message]], str]
"""A chat template: a whole conversation as text."""

BUILTIN_NAME = "builtin"
DEFAULT_LENGTH = 512
DEFAULT_TOKENS = 8192
LIMIT_BYTES = 16 << 20
"""Far more than calibration can use, and tokenized in seconds."""

_DOMAINS = ("prose", "encyclopaedia", "howto", "code", "maths", "structured", "languages")
_DIALOGUE = "dialogue"
_SEPARATOR = "\n%%\n"


@dataclass(frozen=True)
class Domain:
    """Texts of one kind.

    Attributes:
        name: of the kind.
        documents: plain texts.
        conversations: chats, to be rendered with the model's template.
    """

    name: str
    documents: tuple[str, ...] = ()
    conversations: tuple[tuple[Message, ...], ...] = ()


@dataclass(frozen=True)
class CalibrationText:
    """A sample to calibrate with.

    Attributes:
        name: `builtin` or the file's name, for the manifest.
        sha256: of the file's bytes; of all files of the built-in sample in order of their names.
        domains: kinds of text, each of which gives windows in turn.
    """

    name: str
    sha256: str
    domains: tuple[Domain, ...]

    def sequences(
        self,
        encode: Encode,
        length: int = DEFAULT_LENGTH,
        tokens: int = DEFAULT_TOKENS,
        seed: int = 0,
        render: Render | None = None,
    ) -> list[Window]:
        """Cuts a balanced sample into windows; the same arguments give the same windows.

        Each domain is encoded document by document, joined and cut; its windows are drawn in an order
        that `seed` decides, and the domains take turns. With a tokenizer that needs fewer tokens for
        the sample, or with a short file, there are fewer windows than asked for.

        Args:
            encode: the model's tokenizer; a start token that it adds begins every window.
            length: tokens of each window.
            tokens: most tokens in all; at least one window is made.
            seed: of the order.
            render: the model's chat template; None writes conversations as plain text.

        Returns:
            (length,) int32 each, at most `tokens // length` but at least one.

        Raises:
            UnsupportedOption: a number has no meaning, or the text is shorter than one window.
        """
        start = list(encode(""))
        if length < len(start) + 1 or tokens < length:
            raise UnsupportedOption(
                f"calibration windows of {length} tokens and {tokens} tokens in all were asked for; expected "
                f"a length of at least {len(start) + 1} and at least as many tokens"
            )
        order = np.random.default_rng(seed)
        streams = [_encode_domain(domain, encode, start, render) for domain in self.domains]
        pools = [_cut(stream, start, length, order) for stream in streams]
        chosen: list[Window] = []
        while any(pools):
            for pool in pools:
                if pool and len(chosen) < tokens // length:
                    chosen.append(pool.pop())
            if len(chosen) == tokens // length:
                break
        if not chosen:
            found = max((len(stream) for stream in streams), default=0) + len(start)
            raise UnsupportedOption(
                f"the text {self.name} has {found} tokens, expected at least {length} for one "
                "window; give a longer text"
            )
        return chosen


def builtin_calibration() -> CalibrationText:
    """The sample that is shipped with the package."""
    folder = files("edgesdk_converters.quantise.calibration")
    names = sorted([*(f"{name}.txt" for name in _DOMAINS), f"{_DIALOGUE}.json"])
    # Text, not bytes: a checkout with other line ends is still the same sample.
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in names}
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\n{texts[name]}\n".encode())
    domains = [
        Domain(name, documents=tuple(part.strip() for part in texts[f"{name}.txt"].split(_SEPARATOR)))
        for name in _DOMAINS
    ]
    chats = json.loads(texts[f"{_DIALOGUE}.json"])
    domains.insert(0, Domain(_DIALOGUE, conversations=tuple(tuple(chat) for chat in chats)))
    return CalibrationText(BUILTIN_NAME, digest.hexdigest(), tuple(domains))


def read_calibration(path: Path | str) -> CalibrationText:
    """Reads a user's text, which counts as one domain; windows are drawn from all over it.

    Args:
        path: a UTF-8 text file.

    Returns:
        The sample; its sha256 is that of the file.

    Raises:
        UnsupportedOption: it cannot be read, is empty, too large or not UTF-8.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise UnsupportedOption(
            f"the text {path} cannot be read: {error.strerror}; give a UTF-8 text file"
        ) from error
    if len(data) > LIMIT_BYTES:
        raise UnsupportedOption(
            f"the text {path} has more than {LIMIT_BYTES >> 20} MB; give an excerpt, a few hundred "
            "kilobytes are plenty"
        )
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UnsupportedOption(
            f"the text {path} is not UTF-8 (byte {error.start}); convert it first"
        ) from error
    if "\0" in text or not text.strip():
        found = "holds binary data" if "\0" in text else "is empty"
        raise UnsupportedOption(f"the text {path} {found}; give a UTF-8 text file")
    return CalibrationText(path.name, hashlib.sha256(data).hexdigest(), (Domain("text", (text,)),))


def _encode_domain(domain: Domain, encode: Encode, start: list[int], render: Render | None) -> list[int]:
    """All of a domain as one run of tokens, without start tokens: `encode` adds them, templates may too."""
    chats = (render(chat) if render else _plain(chat) for chat in domain.conversations)
    documents = (f"{document}\n\n" for document in domain.documents)
    ids: list[int] = []
    for text in (*documents, *chats):
        encoded = list(encode(text))
        while start and encoded[: len(start)] == start:
            encoded = encoded[len(start) :]
        ids += encoded
    return ids


def _plain(chat: Sequence[Message]) -> str:
    return "".join(f"{message['role']}: {message['content']}\n\n" for message in chat)


def _cut(ids: list[int], start: list[int], length: int, order: np.random.Generator) -> list[Window]:
    step = length - len(start)
    cuts = [np.array([*start, *ids[i : i + step]], np.int32) for i in range(0, len(ids) - step + 1, step)]
    return [cuts[i] for i in order.permutation(len(cuts))]
