"""Which tokens of a checkpoint stay, and what the bundle says about it.

New ids follow the order of the old ones, so that a tokenizer's added tokens stay behind its model's. It
does not know how the tokens were chosen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.id_map import IdMap
from edgesdk.bundle.manifest import VocabularyRecord
from edgesdk.errors import TransformError


@dataclass(frozen=True)
class KeptTokens:
    """A choice of tokens.

    Attributes:
        old_ids: kept ids of the checkpoint, ascending; the position is the new id.
        source_rows: rows of the checkpoint's embedding table.
        source_tokens: tokens of its tokenizer that have a row.
        method: the request, in the grammar of `--prune-vocab`, without folders.
        required: how many tokens stay whatever is chosen.
        coverage: share of the sample's tokens that are kept; None without a sample.
        output_only: the others can still be read: the head alone is pruned, and ids stay as they are.
    """

    old_ids: tuple[int, ...]
    source_rows: int
    source_tokens: int
    method: str
    required: int = 0
    coverage: float | None = None
    output_only: bool = False

    def __post_init__(self) -> None:
        """Checks the ids.

        Raises:
            TransformError: there are none, they do not ascend, or one lies outside the table.
        """
        ids = np.asarray(self.old_ids, np.int64)
        if not len(ids) or (np.diff(ids) <= 0).any() or ids[0] < 0 or ids[-1] >= self.source_rows:
            raise TransformError(
                f"kept token ids must ascend within 0 to {self.source_rows - 1}, and there must be some"
            )

    @classmethod
    def from_bundle(cls, id_map: IdMap, record: VocabularyRecord) -> KeptTokens:
        """The choice that a bundle was made with, so that its source can be pruned the same way again."""
        return cls(
            old_ids=id_map.old_ids,
            source_rows=id_map.source_rows,
            source_tokens=record.source_tokens,
            method=record.method,
            coverage=record.coverage,
            output_only=record.output_only,
        )

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Old id by new id: (N,) int64."""
        return np.asarray(self.old_ids, np.int64)

    @cached_property
    def new_ids(self) -> dict[int, int]:
        """New id by old id."""
        return {old: new for new, old in enumerate(self.old_ids)}

    @cached_property
    def id_map(self) -> IdMap:
        """The map as the bundle keeps it."""
        return IdMap(self.source_rows, self.old_ids)

    def record(self) -> VocabularyRecord:
        """What the manifest says."""
        return VocabularyRecord(
            method=self.method,
            source_rows=self.source_rows,
            source_tokens=self.source_tokens,
            tokens=len(self.old_ids),
            coverage=self.coverage,
            id_map_sha256=hashlib.sha256(self.id_map.to_text().encode()).hexdigest(),
            output_only=self.output_only,
        )
