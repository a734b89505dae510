import datetime
import json
import re

import pytest

from edgesdk.decoding.calendar_dates import PATTERNS
from edgesdk.decoding.json_schema import grammar_schema


def exists(text):
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def test_the_dates_are_those_of_the_calendar():
    pattern = re.compile(PATTERNS["date"])
    years = [0, 1, 4, 100, 400, 1582, 1600, 1700, 1896, 1900, 1904, 1999, 2000, 2023, 2024, 2100, 9996, 9999]
    for year in years:
        for month in range(14):
            for day in range(33):
                text = f"{year:04}-{month:02}-{day:02}"
                assert bool(pattern.match(text)) == exists(text), text


@pytest.mark.parametrize("text", ["2024-02-29T23:59:59Z", "2023-12-31T00:00:00.125+05:30"])
def test_times_of_such_dates(text):
    assert re.match(PATTERNS["date-time"], text)


@pytest.mark.parametrize("text", ["2023-02-29T00:00:00Z", "2024-02-29T24:00:00Z", "2024-02-29T00:00:00"])
def test_no_other_times(text):
    assert not re.match(PATTERNS["date-time"], text)


def test_a_pattern_beside_the_format_stays():
    pytest.importorskip("jsonschema")
    written = json.loads(grammar_schema({"format": "date", "pattern": "-02-29$"}))
    assert "format" not in written
    assert written["pattern"] == "-02-29$"
    assert written["allOf"] == [{"pattern": PATTERNS["date"]}]
