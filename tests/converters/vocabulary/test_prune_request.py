"""The grammar of --prune-vocab, and what it refuses."""

from pathlib import Path

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.vocabulary.prune_request import PruneRequest, parse_prune_option


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("language=en", PruneRequest(language="en")),
        ("language=EN, coverage=0.999", PruneRequest(language="en", coverage=0.999)),
        ("corpus=a/b.txt,size=16000", PruneRequest(corpus=(Path("a/b.txt"),), size=16000)),
        ("corpus=a,corpus=b=c", PruneRequest(corpus=(Path("a"), Path("b=c")))),
        ("tokens=list.json", PruneRequest(tokens=Path("list.json"))),
    ],
)
def test_what_it_reads(text, request_):
    assert parse_prune_option(text) == request_
    assert parse_prune_option(text).describe() == text.replace(" ", "").replace("EN", "en").replace(
        "a/b", "b"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has ''; expected for example corpus=FILE,size=16000"),
        ("size=16000", "needs one of corpus, language and tokens"),
        ("corpus=a,language=en", "needs one of corpus, language and tokens"),
        ("language=en,size=1,coverage=1", "both size and coverage"),
        ("language=en,language=de", "has language twice"),
        ("tokens=a,size=9", "keeps exactly those"),
        ("language=en,size=-1", "size=-1, expected a whole number"),
        ("language=en,size=²", "expected a whole number"),
        ("language=en,size=0", "size=0, expected at least 1"),
        ("language=en,coverage=2", "coverage=2, expected above 0, at most 1"),
        ("language=en,coverage=nan", "expected above 0, at most 1"),
        ("language=en,coverage=x", "expected a share"),
        ("corpus=", "has 'corpus='"),
        ("english", "has 'english'"),
    ],
)
def test_what_it_refuses(text, message):
    with pytest.raises(UnsupportedOption) as caught:
        parse_prune_option(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
