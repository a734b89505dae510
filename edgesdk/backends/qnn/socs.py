"""Qualcomm systems on a chip whose Hexagon processor computes in float16, by the numbers of the QNN SDK.

The numbers are `QNN_SOC_MODEL_*` of QnnTypes.h; older processors (before v73) have no float16, which the
NPU form needs between its products.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.errors import UnsupportedOption


@dataclass(frozen=True)
class Soc:
    """One system on a chip.

    Attributes:
        name: as Qualcomm and users write it, in lower case.
        model: its number in the QNN SDK.
        arch: version of its Hexagon processor.
        product: what shops call it.
    """

    name: str
    model: int
    arch: int
    product: str


SOCS = (
    Soc("sm8550", 43, 73, "Snapdragon 8 Gen 2"),
    Soc("sm8635", 68, 73, "Snapdragon 8s Gen 3"),
    Soc("sm8650", 57, 75, "Snapdragon 8 Gen 3"),
    Soc("sm8735", 85, 79, "Snapdragon 8s Gen 4"),
    Soc("sm8750", 69, 79, "Snapdragon 8 Elite"),
    Soc("sm8850", 87, 81, "Snapdragon 8 Elite Gen 5"),
    Soc("sc8380xp", 60, 73, "Snapdragon X Elite"),
)


def find_soc(name: str) -> Soc:
    """The one of a name.

    Raises:
        UnsupportedOption: there is none.
    """
    for soc in SOCS:
        if soc.name == name.lower():
            return soc
    known = ", ".join(f"{soc.name} ({soc.product})" for soc in SOCS)
    raise UnsupportedOption(f"SoC {name!r} is unknown; expected {known}")
