"""Writes the table of architectures in docs/models.md from what the tests convert.

python docs/make_models_table.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- docs/make_models_table.py -->\n", "<!-- end of the table -->\n"

sys.path.insert(0, str(ROOT))

from edgesdk_converters.architectures.registry import ARCHITECTURES  # noqa: E402
from edgesdk_converters.targets import TARGETS  # noqa: E402
from tests.data.tiny_gguf import ARCHITECTURES as IN_GGUF  # noqa: E402
from tests.test_every_target import TARGETS_TESTED  # noqa: E402
from tests.test_pipeline import MODELS, TARGETS_PROVEN, program_of, refusal  # noqa: E402

COMPARED = (*TARGETS_PROVEN, *TARGETS_TESTED, "coreml")
"""Targets for which tests compare the logits of every architecture (tests/test_pipeline.py,
tests/test_every_target.py and tests/converters/emit/coreml/test_architectures.py)."""


def make_table() -> str:
    """The table, a row for each architecture."""
    columns = [target.name for target in TARGETS]
    lines = [f"| `model_type` | GGUF | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    programs = [program_of(name) for name in MODELS]
    for architecture in ARCHITECTURES:
        own = [p for p in programs if p.spec.architecture == architecture.name]
        cells = [_status([refusal(program, name) for program in own], name) for name in columns]
        gguf = "yes" if any(kind in IN_GGUF for kind in architecture.model_types) else "no"
        lines.append(f"| {', '.join(architecture.model_types)} | {gguf} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _status(refused: list[str | None], target: str) -> str:
    if not refused:
        raise LookupError("an architecture has no tiny checkpoint in tests/data/tiny")
    if any(refused):
        return "refused" if all(refused) else "some"
    return "compared" if target in COMPARED else "taken"


def with_table(text: str) -> str:
    """A document with the table of today between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise LookupError(f"{TARGET.name} lacks the marks of the table")
    return before + BEGIN + make_table() + END + after


if __name__ == "__main__":
    TARGET.write_text(with_table(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
