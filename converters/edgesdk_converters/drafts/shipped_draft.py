"""Trained drafts that come with the package, by the named model that each is for.

A folder `shipped/NAME` as `draft_checkpoint.write_draft` makes it; a named model without one has no draft.
What is too large for a package does not belong there: 8 MB at most, with float16 numbers.
"""

from __future__ import annotations

from pathlib import Path

from edgesdk_converters.drafts.trained_folder import CONFIG

FOLDER = Path(__file__).parent / "shipped"
MOST_BYTES = 8 << 20


def shipped_draft(model: str) -> Path | None:
    """The folder of the draft for a named model; None where the package has none."""
    found = FOLDER / model
    # What is no name of a model must not lead out of the folder.
    return found if found.parent == FOLDER and (found / CONFIG).is_file() else None


def ships(folder: Path) -> bool:
    """Whether a draft is one of the package's own."""
    return folder.parent == FOLDER
