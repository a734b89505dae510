"""Which form of a signature this processor runs: attention over float16 cells is written in two.

Kernels that multiply float16 sum in float32 where the processor only stores float16, and in float16 where it
has arithmetic for it; a sum over thousands of cells then loses digits. So there is a second form, which turns
cells to float32 first (docs/decisions/0045-forms-by-processor.md). The choice goes by instruction sets alone:
a load gives the same numbers every time.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_names import WIDE
from edgesdk.devices.cpu import has_float16_arithmetic, instruction_sets


@dataclass(frozen=True)
class Forms:
    """Which steps turn float16 cells to float32 before they multiply.

    Attributes:
        alone: those of one token.
        few: those of a few.
    """

    alone: bool
    few: bool

    def name(self, shape: StepShape, has: Callable[[str], bool]) -> str:
        """The signature that runs a size.

        Args:
            shape: the size.
            has: whether the file has a signature of this name.
        """
        wide = f"{shape.signature}{WIDE}"
        wanted = self.alone if shape.tokens == 1 else self.few
        return wide if wanted and has(wide) else shape.signature


def forms_for(*, float16_arithmetic: bool, avx512: bool, x86: bool) -> Forms:
    """The forms for a processor of these instruction sets.

    Args:
        float16_arithmetic: it adds float16 numbers.
        avx512: it has AVX512.
        x86: it is of that family; on others a few tokens were measured with float16 products only.
    """
    return Forms(alone=float16_arithmetic, few=float16_arithmetic or (x86 and not avx512))


@cache
def forms_here() -> Forms:
    """The forms for this processor."""
    flags = instruction_sets()
    return forms_for(
        float16_arithmetic=has_float16_arithmetic(),
        avx512=not flags or "avx512f" in flags,  # where it is hidden, as on most that have been measured
        x86=platform.machine().lower() in ("x86_64", "amd64"),
    )
