"""Systems on a chip by name."""

import pytest

from edgesdk.backends.qnn.socs import SOCS, find_soc
from edgesdk.errors import UnsupportedOption


def test_names_are_found_in_either_case():
    assert find_soc("SM8750") is find_soc("sm8750")
    assert find_soc("sm8750").model == 69


def test_all_have_float16_and_a_number_of_their_own():
    assert all(soc.arch >= 73 for soc in SOCS)
    assert len({soc.model for soc in SOCS}) == len(SOCS)


def test_unknown_name_lists_those_there_are():
    with pytest.raises(UnsupportedOption, match=r"SoC 'sm1' is unknown; expected sm8550 \(Snapdragon"):
        find_soc("sm1")
