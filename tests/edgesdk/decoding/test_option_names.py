"""Options as keywords: wrong names, and what `help()` shows."""

import inspect
from dataclasses import dataclass

import pytest

from edgesdk.decoding.option_names import check_names, lists_fields
from edgesdk.errors import UnsupportedOption


@dataclass
class Sails:
    """Of a boat.

    Attributes:
        area: in square metres.
        colour: a word.
    """

    area: int = 12
    colour: str | None = None


@dataclass
class Crew:
    """Of a boat.

    Attributes:
        size: people.
    """

    size: int = 2


def test_wrong_names():
    check_names(["area"], ["area", "colour"])
    with pytest.raises(UnsupportedOption, match=r"^there is no option 'color'; did you mean colour\?$"):
        check_names(["area", "color"], ["area", "colour"])
    with pytest.raises(UnsupportedOption, match=r"did you mean area\?$"):
        check_names(["surface"], ["area", "colour"], {"surface": "area"})
    with pytest.raises(UnsupportedOption, match=r"^there is no option 'x'; there are area, colour$"):
        check_names(["x"], ["area", "colour"])
    with pytest.raises(UnsupportedOption) as caught:
        check_names(["a" * 100_000], ["area"])
    assert len(str(caught.value)) < 200


def test_help_lists_the_fields_of_every_record():
    @lists_fields(Sails, Crew)
    def sail(boat, **options):
        """Sails.

        Args:
            boat: which.
        """

    listed = inspect.signature(sail).parameters
    assert list(listed) == ["boat", "area", "colour", "size"]
    assert [listed[name].default for name in ("area", "colour", "size")] == [12, None, 2]
    assert inspect.getdoc(sail).endswith(
        "Options:\n    area: in square metres.\n    colour: a word.\n    size: people."
    )
