"""A line as words and what stands between them; the form of a word.

`split` cuts at spaces and at `= : , ; ( ) [ ] { } < > " ' |`, but leaves whole what is one thing to a reader: paths,
addresses, URIs, times of day, hexadecimal numbers, sizes with their unit, identifiers joined by `_`.
`form` forgets the digits of a word and keeps what it looks like, so that what is known of one number holds for all.
"""

from __future__ import annotations

import re
from functools import lru_cache

LONG = 200
"""Characters of a word above which it is not looked at closely."""
_STOP = r"\s=,;()\[\]{}<>\"'|"
_WORD = rf"[^{_STOP}:]"
_PIECE = re.compile(
    rf"""
    [A-Za-z][\w+.-]*://[^\s,;()\[\]{{}}<>"'|]+                                  # a URI
    | \d{{4}}[-/]\d\d[-/]\d\d(?:[T_-]\d\d[:.]\d\d(?:[:.]\d\d)?(?:[.,]\d+)?Z?)?(?![\w-])  # a date, perhaps with its time
    | \d{{1,3}}:\d\d(?::\d\d)?(?:[.,]\d+)?(?![\w:])                                  # a time of day, a duration
    | (?:[0-9A-Fa-f]{{2}}:){{5,}}[0-9A-Fa-f]{{2}}\b                                # an address of hardware
    | (?:[0-9A-Fa-f]{{0,4}}:){{3,7}}[0-9A-Fa-f]{{1,4}}\b                           # IPv6
    | [A-Za-z]:[\\/][^{_STOP}:]*                                                # a path of Windows
    | (?:{_WORD}{{0,99}}[./-]{_WORD}{{0,99}}\d|{_WORD}{{1,99}}\.[a-z]{{2,}}|localhost)
      :\d+(?![\w:]|\.\d)      # a host and its port
    | \d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?![\w,])                                      # a number with thousands
    | \.{{3,}}|[*_=~-]{{3,}}(?!\w)                                                # a line of dots or dashes
    | (?:(?!\.{{3}}){_WORD})+                                                      # a word
    | .                                                                         # what stands between words
    """,
    re.X | re.S,
)
_TAIL = re.compile(r"^(.*[\w)%>*/\\-])([.!?]+)$", re.S)
_NUMBERED = re.compile(r"^([#@]|[A-Za-z]{3,}[-.#@])(\d+)$")


def split(line: str) -> list[str]:
    """The pieces of a line: joined, they are the line again, each run of white space as one space."""
    pieces: list[str] = []
    for piece in _PIECE.findall(" ".join(line.split())):
        if len(piece) > 1:
            pieces += _cut(piece)
        else:
            pieces.append(piece)
    return pieces


@lru_cache(1 << 15)
def _cut(piece: str) -> tuple[str, ...]:
    """Without the full stop of the sentence, and the number apart from the name it is joined to (`core.17`)."""
    tail: tuple[str, ...] = ()
    if match := _TAIL.match(piece):
        piece, tail = match[1], (match[2],)
    if match := _NUMBERED.match(piece):
        return (match[1], match[2], *tail)
    return (piece, *tail)


@lru_cache(1 << 16)
def is_word(piece: str) -> bool:
    """Has a letter or a digit."""
    return any(map(str.isalnum, piece))


_KINDS = [
    (name, re.compile(pattern + r"\Z", re.I))
    for name, pattern in (
        ("date", r"\d{4}[-/]\d\d[-/]\d\d.*"),
        ("clock", r"\d{1,3}:\d\d(:\d\d)?([.,]\d+)?"),
        ("uuid", r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        ("hex", r"0x[0-9a-f]+"),
        ("uri", r"[a-z][\w+.-]*://.*"),
        ("address", r"/?(\S+/)?(\d{1,3}\.){3}\d{1,3}(:\d+|/\d+)?"),
        ("address", r"(?=.*:)([0-9a-f]{0,4}:){3,}[0-9a-f]{1,4}"),
        ("hostport", r".*:\d+"),
        ("path", r"([a-z]:)?[\\/].*|~/.*|\.{1,2}/.*|.+/.+/.+"),
        ("percent", r"[-+]?\d+(\.\d+)?%"),
        ("time", r"[-+]?\d+(\.\d+)?(ns|us|µs|ms|s|sec|secs|seconds|min|mins|m|h|hr|hrs|d)"),
        ("size", r"[-+]?\d+(\.\d+)?([kmgt]i?b?|b|bytes|pages)"),
        ("decimal", r"[-+]?\d+\.\d+"),
        ("version", r"v?\d+(\.\d+){2,}(-?(rc|a|b|alpha|beta|dev|post)\.?\d*|[+-]\d[\w.]*)?|v\d+(\.\d+)*"),
        ("digest", r"(?=.*\d)(?=.*[a-f])[0-9a-f]{7,}"),
        ("mail", r"[\w.+-]+@[\w.-]+"),
        ("file", r"[\w-]+(\.[\w-]+)*\.(py|c|cc|cpp|h|java|js|ts|json|ya?ml|txt|log|cfg|conf|ini|xml|jar|so|gz|tar|"
                 r"zip|whl|exe|dll|md|toml|sh)"),
        ("dotted", r"[a-z_$][\w$-]*(\.[\w$-]+)+"),
    )
]  # fmt: skip
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SHAPE = [
    (re.compile(p), r)
    for p, r in ((r"[A-Z]+", "A"), (r"[a-z]+", "a"), (r"\d{4,}", "9"), (r"\d{1,3}", "0"), (r"([^\w])\1+", r"\1"))
]


@lru_cache(1 << 16)
def form(word: str) -> str:
    """A word without digits as it is; of any other its kind and shape: `=int 3`, `=path`, `=name a_0_0`."""
    if word.isalpha():
        return word
    if len(word) > LONG:
        return "=long"
    number = word[1:] if word[:1] in "+-" else word
    if number.isdigit():
        if len(number) == 1:
            return "=int " + ("-1" if word[0] == "-" else word if word in "01" else "2")
        sign = "-" if word[0] == "-" else ""
        return f"=int {sign}{min(len(number), 4) if len(number) < 7 else 7}"
    for name, pattern in _KINDS:
        if pattern.match(word):
            digits = "0" if any(map(str.isdigit, word)) else "a"
            return f"={name} {digits} {tail(word)}" if name in ("dotted", "file") else f"={name}"
    return f"=name {shape(word)}" if any(map(str.isdigit, word)) else word


def shape(word: str) -> str:
    """Runs of capitals as `A`, of small letters as `a`, of digits as `0`, long ones as `9`."""
    for matched, put in _SHAPE:
        word = matched.sub(put, word)
    return word[:12]


def tail(word: str) -> str:
    """The last part of a name made of several, in the singular: `time` of `sleepTimes`."""
    parts = _PARTS.findall(word)
    return parts[-1].lower().removesuffix("s") if parts else ""
