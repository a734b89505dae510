"""Words of a language by how common they are, from what is on this machine: nothing is fetched.

English comes with the package, counted from WordNet's glosses (`languages/LICENCE-en.txt`). Other
languages come from the `wordfreq` package, when it is installed. Where a list says only the order of its
words, weights follow Zipf's law. It knows nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from edgesdk.errors import MissingExtra, UnsupportedOption

BUILT_IN = ("en",)
_ZIPF_SHIFT = 2.7  # Mandelbrot's, for English
_MOST_WORDS = 100_000

# How a word is written where: after a space, at the start of a sentence or a name, at the start of a text.
_FORMS = ((" {}", 1.0), (" {C}", 0.15), ("{C}", 0.05), ("{}", 0.03))


def language_samples(code: str) -> tuple[list[str], list[float]]:
    """Short texts and how much each counts: every word in the forms in which it is met.

    Args:
        code: ISO 639-1, e.g. `en`.

    Raises:
        UnsupportedOption: there is no list of that language.
        MissingExtra: the list is in a package that is not installed.
    """
    texts, weights = [], []
    for word, weight in _words(code):
        seen = set()
        for form, share in _FORMS:
            text = form.replace("{C}", word[:1].upper() + word[1:]).replace("{}", word)
            if text not in seen:  # scripts without capitals
                seen.add(text)
                texts.append(text)
                weights.append(weight * share)
    return texts, weights


def _words(code: str) -> Iterator[tuple[str, float]]:
    if code in BUILT_IN:
        source = files("edgesdk_converters.vocabulary") / "languages" / f"{code}.txt"
        for rank, word in enumerate(source.read_text(encoding="utf-8").split()):
            yield word, 1 / (rank + _ZIPF_SHIFT)
        return
    if not (2 <= len(code) <= 8 and code.replace("-", "").isalnum() and code.isascii()):
        raise UnsupportedOption(f"language {code[:40]!r} is no code; expected for example en, de or ja")
    try:
        from wordfreq import available_languages, get_frequency_dict
    except ImportError:
        raise MissingExtra("wordfreq", "languages") from None
    known = available_languages("best")
    if code not in known:
        raise UnsupportedOption(
            f"language {code!r} is not known; known are {', '.join(sorted({*known, *BUILT_IN}))}; "
            "or give a text of it with corpus=FILE"
        )
    frequencies: dict[str, float] = get_frequency_dict(code, wordlist="best")
    common = sorted(frequencies, key=lambda word: (-frequencies[word], word))
    yield from ((word, frequencies[word]) for word in common[:_MOST_WORDS])
