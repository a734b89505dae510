r"""Regular expressions that published tokenizers split text with, in Oniguruma's dialect.

They are facts of the formats: one changed character changes token ids. Shared parts are named so
that the differences between families can be seen. It knows nothing of the names that GGUF uses.
"""

from __future__ import annotations


def _characters(codes: str) -> str:
    """Inside of a character class, from code points and ranges of them in hexadecimal."""
    ends = ([chr(int(code, 16)) for code in entry.split("-")] for entry in codes.split())
    return "".join("-".join(end) for end in ends)


_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_BREAKS = r"\s*[\r\n]+"
_SPACES = r"\s+(?!\S)|\s+"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}{{1,3}}|{_SIGNS}|{_BREAKS}|{_SPACES}"
QWEN2 = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}|{_SIGNS}|{_BREAKS}|{_SPACES}"
UFAKZEKA = rf"{_LETTERS}|\p{{N}}|{_SIGNS}|{_BREAKS}|{_SPACES}"
MINICPM5 = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}+|{_SIGNS}|{_BREAKS}|{_SPACES}"
SEED_CODER = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_BREAKS}|{_SPACES}"
QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BREAKS}|{_SPACES}"
)
# Runs of spaces are cut into powers of two; nothing longer than 512 was seen in training.
JAIS2 = (
    rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}{{1,3}}|{_SIGNS}|{_BREAKS}"
    + "".join(rf"|\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4))
    + r"|\s{1,2}(?!\S)|\s{1}"
)
# Possessive quantifiers and a single line break, unlike its neighbours.
BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    rf"|\s*[\r\n]|{_SPACES}"
)
EXAONE_MOE = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|{_SPACES}"
)

_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_SIGNS_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"


def _cased(number: str, suffix: str) -> str:
    return (
        rf"{_LEAD}[{_UPPER}]*[{_LOWER}]+{suffix}|{_LEAD}[{_UPPER}]+[{_LOWER}]*{suffix}"
        rf"|{number}|{_SIGNS_SLASH}|{_BREAKS}|{_SPACES}"
    )


TEKKEN = _cased(r"\p{N}", "")
GPT4O = _cased(r"\p{N}{1,3}", f"{_CONTRACTION}?")
YOUTU = _cased(r"\p{N}", f"{_CONTRACTION}?")
_HAN_KANA = _characters("4E00-9FA5 3040-309F 30A0-30FF")
YOUTU_SCRIPTS = (
    f"[{_characters('AC00-D7A3 3131-318E')}]+"
    f"|[{_characters('FF01 2026 201C 201D 2018 2019 2014 FF1A FF1B FF0C 3001-303F FE30-FE4F')}]+"
    f"|[{_characters('3105-312F')}]+|[{_HAN_KANA}]+"
)
KIMI_K2 = (
    rf"[\p{{Han}}]+|{_LEAD}[{_UPPER}&&[^\p{{Han}}]]*[{_LOWER}&&[^\p{{Han}}]]+{_CONTRACTION}?"
    rf"|{_LEAD}[{_UPPER}&&[^\p{{Han}}]]+[{_LOWER}&&[^\p{{Han}}]]*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}|{_SIGNS}|{_BREAKS}|{_SPACES}"
)

DIGIT = r"\p{N}"
DIGIT_RUNS = r"\p{N}+"
DIGITS_3 = r"\p{N}{1,3}"
ASCII_THREES = "[0-9][0-9][0-9]"
DIGITS_3_FROM_RIGHT = r"\d{1,3}(?=(?:\d{3})*\b)"
DIGITS_3_ALIGNED = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
BEFORE_DIGIT_THREES = r"(?=(\d{3})+(?!\d))"

SIGN_RUNS = r"[\p{P}\$\+<=>\^~\|]+"
LINES = r"[^\n]+|[\n]+"
LINE_BREAK = "[\r\n]"
SPACES_AT_END = r"\s+$"
SPACED_LETTERS = r"\s?\p{L}+"
SPACED_PUNCTUATION = r"\s?\p{P}+"
CJK_HANGUL = f"[{_characters('4E00-9FA5 0800-4E00 AC00-D7FF')}]+"
CJK_KANA = f"[{_HAN_KANA}]+"
BLOOM = rf" ?[^(\s|[.,!?{_characters('2026 3002 FF0C 3001 0964 06D4 060C')}])]+"

_ASCII_SIGN_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_LETTERS_MARKS = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
DEEPSEEK3 = rf"{_ASCII_SIGN_WORD}|{_LETTERS_MARKS}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BREAKS}|{_SPACES}"
SPARK = rf"{_ASCII_SIGN_WORD}|{_LETTERS_MARKS}| ?[\p{{P}}\p{{S}}]+|[\r\n]|{_SPACES}"

# The letters that have a case, as a Unicode version before 12 lists them.
_CASED_LETTERS = _characters(
    """
    0041-005A 0061-007A 00B5 00C0-00D6 00D8-00F6 00F8-01BA 01BC-01BF 01C4-0293 0295-02AF 0370-0373
    0376 0377 037B-037D 037F 0386 0388-038A 038C 038E-03A1 03A3-03F5 03F7-0481 048A-052F 0531-0556
    10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15
    1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE
    1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115
    2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B
    2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF
    FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2
    10CC0-10CF2 118A0-118DF 1E900-1E943
    """
)
DEEPSEEK_WORDS = rf"\s?[{_CASED_LETTERS}]+"
DEEPSEEK_PUNCTUATION = rf"\s?[!-/:-~{_characters('FF01-FF0F FF1A-FF5E 2018-201F 3000-3002')}]+"

# CJK and its compatibility forms, kana, radicals, Thai, Lao, Khmer, Myanmar, Hangul.
ASIAN_SCRIPTS = "[{}]+".format(
    _characters(
        """
        4E00-9FFF 3400-4DBF F900-FAFF 3040-309F 30A0-30FF FF65-FF9F 2F00-2FDF 0E40-0E7F 0E80-0EFF
        1780-17FF 1000-109F AA60-AA7F A9E0-A9FF AC00-D7AF 1100-11FF
        """
    )
)

SENTINEL = "<sentinel:[0-9]+>"
IMAGE_TOKEN = "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"
CHAMELEON_SPACES = r"([\t\n]|    |  )"
