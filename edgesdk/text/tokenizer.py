"""Text to token ids and back, by the `tokenizers` package and a bundle's tokenizer.json.

Special tokens written out in the text (as chat templates do) become their ids; none is added by the
tokenizer's own post-processor but by `frame`, for models that embed texts. The one token that may be put in
front of others is `bos_id`, and the manifest says when. It knows nothing of templates or streaming.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.backends.native_log import caught_native_log
from edgesdk.bundle.check_tokenizer import MOST_BYTES, check_tokenizer
from edgesdk.bundle.drafts import is_draft
from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.bundle.native_calls import native_call
from edgesdk.bundle.passed_checks import has_passed, remember_passed
from edgesdk.errors import BundleError, EdgeError, UnsupportedOption
from edgesdk.text.sound_text import check_sound_text

_CHECK = "tokenizers-1"
"""To be raised with every change of `check_tokenizer` and `check_pattern`."""

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine


class Tokenizer:
    """A bundle's tokenizer; its file is read when it is first used."""

    def __init__(self, path: Path, record: TokenizerRecord) -> None:
        """Remembers where the tokenizer is.

        Args:
            path: a `tokenizer.json`.
            record: ids by role.
        """
        self._path = path
        self.record = record

    @cached_property
    def engine(self) -> Engine:
        """The loaded tokenizer.

        Raises:
            BundleError: the file is not a tokenizer, or passes a bound (`check_tokenizer`).
        """
        from tokenizers import Tokenizer as Engine

        data = self._read()
        # A panic writes on the terminal by itself.
        with (
            native_call(f"{self._path} is not a tokenizer", BundleError, "convert the bundle again"),
            caught_native_log(),
        ):
            engine = Engine.from_buffer(data)
        # Training leftovers that some files carry: a prompt is never cut or filled up.
        engine.no_truncation()
        engine.no_padding()
        return engine

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens, which are no part of an answer's text."""
        added = self.engine.get_added_tokens_decoder()
        return frozenset(token for token, entry in added.items() if entry.special)

    def encode(self, text: str, add_bos: bool | None = None) -> list[int]:
        """Token ids of `text`.

        Args:
            text: any text; special tokens in it are recognised.
            add_bos: whether to start with `bos_id`; None does what the manifest says.

        Raises:
            UnsupportedOption: the text has half a character, or the tokenizer fails at it.
        """
        check_sound_text(text, "the text")
        engine = self.engine
        with native_call("the tokenizer cannot encode the text", UnsupportedOption):
            ids = engine.encode(text, add_special_tokens=False).ids
        wants_bos = self.record.add_bos if add_bos is None else add_bos
        if wants_bos and self.record.bos_id is not None:
            return [self.record.bos_id, *ids]
        return list(ids)

    def frame(self, text: str) -> list[int]:
        """Token ids of `text`, with those that the tokenizer itself puts around it.

        Raises:
            UnsupportedOption: the text has half a character, or the tokenizer fails at it.
        """
        check_sound_text(text, "the text")
        with native_call("the tokenizer cannot encode the text", UnsupportedOption):
            return list(self.engine.encode(text).ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave special tokens out.

        Raises:
            UnsupportedOption: an id is no number that a token can have.
        """
        try:
            return str(self.engine.decode(list(ids), skip_special_tokens=skip_special))
        except (EdgeError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # as native_call, whose block would cost time at every token
            with native_call("the tokenizer cannot decode these ids", UnsupportedOption):
                raise error

    def _read(self) -> bytes:
        """The file, which is checked once for the same bytes."""
        try:
            with self._path.open("rb") as stream:
                data = stream.read(MOST_BYTES + 1)
        except OSError as error:
            raise BundleError(
                f"{self._path} cannot be read: {error.strerror}; convert the bundle again"
            ) from error
        if len(data) > MOST_BYTES:
            raise BundleError(
                f"{self._path} is not a tokenizer: more than {MOST_BYTES} bytes; convert the bundle again"
            )
        digest = hashlib.sha256(data).hexdigest()
        if not has_passed(_CHECK, digest):
            check_tokenizer(data)
            if not is_draft(self._path):  # of a draft nothing may be left should it fail
                remember_passed(_CHECK, digest)
        return data
