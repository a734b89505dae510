"""Text to token ids and back, by the `tokenizers` package and a bundle's tokenizer.json.

Special tokens written out in the text (as chat templates do) become their ids; none is ever added
by the tokenizer's own post-processor. The one token that may be put in front is `bos_id`, and the
manifest says when. It knows nothing of templates or streaming.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.errors import BundleError

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
            BundleError: the file is not a tokenizer.
        """
        from tokenizers import Tokenizer as Engine

        try:
            engine = Engine.from_file(str(self._path))
        except Exception as error:  # the package raises nothing more precise
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise BundleError(
                f"{self._path} is not a tokenizer: {reason}; convert the bundle again"
            ) from error
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
        """
        # A lone surrogate is no Unicode text; it arises from undecodable command line arguments.
        sound = text.encode("utf-8", "replace").decode("utf-8")
        ids = self.engine.encode(sound, add_special_tokens=False).ids
        wants_bos = self.record.add_bos if add_bos is None else add_bos
        if wants_bos and self.record.bos_id is not None:
            return [self.record.bos_id, *ids]
        return list(ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave special tokens out.
        """
        return str(self.engine.decode(list(ids), skip_special_tokens=skip_special))
