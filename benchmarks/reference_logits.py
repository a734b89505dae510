"""The float32 evaluator's logits for token windows, kept on disk so that every later run reads them.

A window of 512 tokens of a 49,000-word model is 100 MB; 20,000 tokens are 4 GB. They lie in
`quality/reference/` of the cache folder and may be deleted at any time. Kept as they are: halves would
blur near-ties and small divergences.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

Window = NDArray[np.int32]
Scorer = Callable[[Window], NDArray[np.float32]]

_SPARE_BYTES = 2 << 30


def window_digest(window: Window) -> str:
    """Names a window of tokens."""
    return hashlib.sha256(window.astype("<i4").tobytes()).hexdigest()[:24]


class ReferenceLogits:
    """Logits of the reference: computed once, then read."""

    def __init__(self, folder: Path, source_digest: str, open_scorer: Callable[[], Scorer]) -> None:
        """Remembers where to look.

        Args:
            folder: of all references.
            source_digest: of the checkpoint's files.
            open_scorer: opens the evaluator; called when the first window is not on disk.
        """
        self._folder = folder / source_digest[:24]
        self._open = open_scorer
        self._scorer: Scorer | None = None

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """Logits after each token: (n, V) float32."""
        path = self._folder / f"{window_digest(window)}.npy"
        if path.is_file():
            try:
                return np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError:
                path.unlink()  # cut short by a full disk or a crash of the machine
        if self._scorer is None:
            self._scorer = self._open()
        logits = self._scorer(window)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < logits.nbytes + _SPARE_BYTES:
            raise click.ClickException(
                f"{self._folder} has {free / 1e9:.1f} GB free, the reference needs "
                f"{logits.nbytes / 1e6:.0f} MB a window; free some space or set EDGESDK_CACHE"
            )
        draft = path.with_suffix(".part")
        with draft.open("wb") as stream:
            np.save(stream, logits)
        draft.replace(path)
        return logits
