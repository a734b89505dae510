"""The id map of a bundle whose vocabulary was pruned: old token ids by new ones.

Whatever was made for the full vocabulary - a grammar, an adapter, a draft - finds its way through it. The
file is JSON with two keys, `source_rows` and `old_ids`; its digest is in the manifest like every file's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgesdk.bundle.records import from_json
from edgesdk.errors import BundleError

_LIMIT_BYTES = 32 << 20


@dataclass(frozen=True)
class IdMap:
    """Old ids by new ids.

    Attributes:
        source_rows: rows of the checkpoint's embedding table; old ids lie below.
        old_ids: ascending; the position is the new id.
    """

    source_rows: int
    old_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks the ids.

        Raises:
            ValueError: they do not ascend within the table.
        """
        before = -1
        for old in self.old_ids:
            if not before < old < self.source_rows:
                raise ValueError(
                    f"old_ids has {old} after {before}, expected ids that ascend below source_rows"
                )
            before = old

    @cached_property
    def new_by_old(self) -> dict[int, int]:
        """New id by old id."""
        return {old: new for new, old in enumerate(self.old_ids)}

    def to_new(self, old_ids: Iterable[int]) -> list[int | None]:
        """New ids of old ones; None where a token was dropped."""
        return [self.new_by_old.get(old) for old in old_ids]

    def to_old(self, new_ids: Iterable[int]) -> list[int]:
        """Old ids of new ones."""
        return [self.old_ids[new] for new in new_ids]

    def to_text(self) -> str:
        """The file's text; the same map gives the same bytes."""
        document = {"source_rows": self.source_rows, "old_ids": list(self.old_ids)}
        return json.dumps(document, separators=(",", ":")) + "\n"


def read_id_map(path: Path) -> IdMap:
    """Reads an id map.

    Args:
        path: of the bundle's `vocabulary.json`.

    Raises:
        BundleError: it cannot be read or is damaged.
    """
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise BundleError(f"{path.name} is larger than {_LIMIT_BYTES >> 20} MiB; it is no id map")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BundleError(f"{path.name} cannot be read: {reason}; convert the bundle again") from error
    return from_json(IdMap, document, path.name)
