"""A drafter for tests of whoever judges drafts: half of what it says is nonsense, and it takes its time."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np

from edgesdk.decoding.draft import Draft, DraftRequest, JudgedStep
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.lookup import Lookup


class UnrulyDrafter:
    """Looks up, adds random branches to what it finds, and takes its time now and then."""

    name = "unruly"

    def __init__(self, vocabulary: int, seed: int = 0) -> None:
        self._lookup = CombinedDrafter([Lookup()], weigh=False)
        self._vocabulary = vocabulary
        self._random = random.Random(seed)

    @property
    def nbytes(self) -> int:
        return self._lookup.nbytes

    def propose(self, asked: Sequence[DraftRequest]) -> list[Draft | None]:
        if self._random.random() < 0.01:
            time.sleep(self._random.random() * 0.05)
        found = self._lookup.propose(asked)
        return [self._spoil(request, draft) for request, draft in zip(asked, found, strict=True)]

    def learn(self, step: JudgedStep) -> None:
        self._lookup.learn(step)

    def forget(self, key: int) -> None:
        self._lookup.forget(key)

    def close(self) -> None:
        self._lookup.close()

    def _spoil(self, request: DraftRequest, draft: Draft | None) -> Draft | None:
        chance = self._random.random
        if chance() < 0.2:
            return None
        kept = 0 if draft is None else self._random.randint(0, len(draft.tokens))
        tokens = [] if draft is None else draft.tokens[:kept].tolist()
        parents = [] if draft is None else draft.parents[:kept].tolist()
        depths: list[int] = []
        for parent in parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 1)
        for _ in range(self._random.randint(0, request.most - kept)):
            parent = self._random.randint(-1, len(tokens) - 1)
            depth = depths[parent] + 1 if parent >= 0 else 1
            token = self._random.randrange(self._vocabulary)
            if depth <= request.deepest and (parent, token) not in zip(parents, tokens, strict=True):
                tokens.append(token)
                parents.append(parent)
                depths.append(depth)
        return Draft(np.array(tokens, np.int32), np.array(parents, np.int32)) if tokens else None
