"""The grammar of --skip-layers."""

import pytest

from edgesdk.bundle.decoder_spec import Half
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.transforms.skip_request import SkipRequest, parse_skip, whole_blocks


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("20-23", "20-23"),
        ("5.attention,7.mlp", "5.attention,7.mlp"),
        (" 3 , 2 ", "2-3"),
        ("4.mlp,4.attention", "4"),
        ("1-3.mlp,2", "1.mlp,2,3.mlp"),
        ("0", "0"),
    ],
)
def test_requests_are_put_in_order(text, described):
    request = parse_skip(text)
    assert request.describe() == described
    assert parse_skip(described) == request


def test_a_block_is_its_two_halves():
    assert parse_skip("7").halves == (Half(7, "attention"), Half(7, "mlp"))
    assert whole_blocks([8, 7]) == parse_skip("7-8")
    assert parse_skip("7.mlp") | parse_skip("7.attention") == parse_skip("7")


@pytest.mark.parametrize(
    "text", ["", "a", "5-", "-5", "9-3", "5.head", "1,,2", "5.", "999999", "1-2-3", "²", "0x1"]
)
def test_other_text_is_refused_in_one_line(text):
    with pytest.raises(UnsupportedOption, match="expected for example") as caught:
        parse_skip(text)
    assert "\n" not in str(caught.value)


def test_nothing_has_no_text():
    assert SkipRequest().describe() == ""
