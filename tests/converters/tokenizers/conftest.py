# ruff: noqa: RUF001 - letters of other scripts that look like Latin ones are the point
"""Lines of text, code, emoji and many scripts."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest

_SCRIPTS = {
    "arabic": "السلام عليكم ورحمة الله، كيف حالك؟ ١٢٣٤٥ كتابٌ جديدٌ",
    "armenian": "Բարեւ Ձեզ, ինչպե՞ս եք։",
    "bengali": "আমি বাংলায় কথা বলি। ১২৩৪",
    "chinese": "我想在apple工作1314151天～，你好世界！「引号」；简体繁體",
    "cyrillic": "Съешь ещё этих мягких французских булок. нещо на Български ѝ Її",
    "devanagari": "नमस्ते दुनिया। हिन्दी में लिखा हुआ पाठ १२३ क्षत्रिय",
    "ethiopic": "ሰላም ልዑል፡ እንዴት ነህ።",
    "georgian": "გამარჯობა მსოფლიო",
    "greek": "Γειά σου Κόσμε· ΑΒΓ ἄνθρωπος ᾳ",
    "gujarati": "નમસ્તે વિશ્વ ૧૨૩",
    "hangul": "안녕하세요 세계! 한글은 ㄱㄴㄷ 각",
    "hebrew": "שלום עולם, מה שלומך? בְּרֵאשִׁית",
    "japanese": "これはテストです。カタカナとひらがな、漢字ｶﾀｶﾅ１２３",
    "khmer": "កាន់តែពិសេសអាច ១២៣",
    "lao": "ສະບາຍດີຊາວໂລກ",
    "latin": "Zażółć gęślą jaźń – naïve façade, Ångström’s “quote” ſtraße ﬁ İstanbul ǅ Ð",
    "myanmar": "မင်္ဂလာပါ ကမ္ဘာလောက",
    "sinhala": "ආයුබෝවන් ලෝකය",
    "tamil": "வணக்கம் உலகம் ௧௨௩",
    "telugu": "నమస్కారం ప్రపంచం",
    "thai": "สวัสดีชาวโลก ๑๒๓ ภาษาไทยไม่มีช่องว่าง",
    "tibetan": "བོད་སྐད་ཡིག",
    "vietnamese": "Tiếng Việt có dấu: được, nghiêng, Nguyễn, Nguyễn",
}
_EMOJI = "🚀 😶‍🌫️ ✅ 🦙🦙 👩‍👩‍👧‍👦 🇫🇷🇯🇵 👍🏽 ☺️ 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿"
_ODD = (
    "\t \n \r\n \x00 \x07 \x1b \x7f \x85 \xa0 \u00ad \u200b \u2028 \u202e \u3000 \ufeff \ufffd "
    "\U0010ffff \ue000"
)
_SIGNS = "½ ² ³ ¼ ① Ⅳ € $ ± ∑ ≠ → … “ ” ‘ ’ « » — ¿ ¡ § ٪ % ^ ~ | ` < > = + _ \\ / @ # & * ( ) [ ] { }"
_ENGLISH = (
    "I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL "
    "DON'T y'all o'clock THEY'LL CamelCaseWords snake_case_name kebab-case HTTPServer x1y22z333 "
    "3 33 333 3333 33333 333333 3333333 3.3 3..3 1,234,567.89 0xDEADBEEF 1e-10 $3.50 50% https://example.org/a?b=c#d"
)
_CODE_FILES = ("textwrap.py", "heapq.py", "keyword.py", "colorsys.py", "bisect.py")


@pytest.fixture(scope="session")
def lines() -> list[str]:
    """About 3,000 lines, the same on every machine and Python of one minor version."""
    return [*_written(), *_made(random.Random(20240501))]


def _written() -> Iterator[str]:
    yield from (text for text in _SCRIPTS.values())
    yield from (
        _EMOJI,
        _ODD,
        _SIGNS,
        _ENGLISH,
        "",
        " ",
        "  ",
        "\n",
        "\n\n\n",
        "\t",
        "   leading",
        "trailing   ",
    )
    for key in sorted(topics)[:12]:
        yield from topics[key].splitlines(keepends=True)[:60]
    library = Path(textwrap.__file__).parent
    for name in _CODE_FILES:
        text = (library / name).read_text(encoding="utf-8")
        yield from text.splitlines(keepends=True)[:150]
        yield text[:2000]


def _made(dice: random.Random) -> Iterator[str]:
    """Words of several scripts, signs, digits, spaces and line breaks in unlikely orders."""
    words = [word for text in (*_SCRIPTS.values(), _ENGLISH, _EMOJI, _SIGNS) for word in text.split()]
    odd = _ODD.split(" ")
    glue = [
        " ",
        " ",
        " ",
        "",
        "",
        "  ",
        "   ",
        "\n",
        "\n\n",
        " \n",
        "\t",
        "\r\n",
        "'",
        "’s ",
        "-",
        "/",
        ".",
        ", ",
    ]
    for _ in range(2000):
        parts: list[str] = []
        for _ in range(dice.randint(1, 14)):
            kind = dice.random()
            if kind < 0.7:
                parts.append(dice.choice(words))
            elif kind < 0.8:
                parts.append(str(dice.randrange(10 ** dice.randint(1, 12))))
            elif kind < 0.85:
                parts.append(dice.choice(odd))
            elif kind < 0.9:
                parts.append(dice.choice(" \n=-.!?a'") * dice.randint(1, 20))
            else:
                parts.append(_noise(dice))
            parts.append(dice.choice(glue))
        yield "".join(parts)


def _noise(dice: random.Random) -> str:
    """Random code points of the whole range, surrogates left out, or bytes read as UTF-8."""
    if dice.random() < 0.5:
        return bytes(dice.randrange(256) for _ in range(dice.randint(1, 8))).decode("utf-8", "replace")
    points = (
        dice.choice((dice.randrange(0x800), dice.randrange(0x3000), dice.randrange(0x1F000)))
        for _ in range(4)
    )
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)


@pytest.fixture(scope="session")
def fixed_lines() -> list[str]:
    """Lines that no version of Python changes, of characters that every version of Unicode in use knows."""
    return [
        *_SCRIPTS.values(),
        _EMOJI,
        _ODD,
        _SIGNS,
        _ENGLISH,
        "\n \n\n \t \t\t \n  \n   \n",
        "  a   b    c  ",
    ]
