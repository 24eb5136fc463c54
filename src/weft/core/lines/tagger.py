"""Which words of a line are variables, and of which of the ten published categories.

A linear softmax over hashed features of a word's form and of the two words on each side. What it reads of a word is
its `form`, so a decision is remembered by the forms around it, and a log's million lines need a few thousand
decisions. The weights are one byte each, trained by `python -m weft.trace.templates.train` on lines of our own making.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from zlib import crc32

from weft.core.errors import BadInput
from weft.core.lines.words import form, is_word, shape, tail

CATEGORIES = {
    "OID": "identifier of an object: session, user, process, block",
    "LOI": "location: path, URI, address, port",
    "OBN": "name of an object: user, host, domain, task, job",
    "TID": "type of an object or action",
    "SID": "switch: on or off, as word or number",
    "TDA": "time or duration of an action",
    "CRS": "computing resource: memory, disk, bytes",
    "OBA": "amount of objects",
    "STC": "status code",
    "OTP": "any other parameter",
}
"""The ten categories of VALB (arXiv 2304.11391)."""
TAGS = ("", *CATEGORIES)
"""What a word can be: static text, or a variable of a category."""
ROWS = 1 << 14
SCALE = 16.0
"""Weights are stored as sixteenths."""
STATIC = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "could", "do", "does", "for", "from", "had", "has",
    "have", "if", "in", "into", "is", "it", "no", "not", "of", "on", "or", "out", "than", "that", "the", "there",
    "this", "to", "was", "were", "when", "which", "while", "will", "with", "would",
))  # fmt: skip
"""Words that only join others: no variables, whatever stands around them."""
_REMEMBERED = 1 << 17

Window = tuple[str, str, str, str, str, str, str, str]
"""Forms: three words before, what stands before, the word, what stands after, two words after."""


def windows(pieces: Sequence[str]) -> list[tuple[int, Window]]:
    """Each word's index among the pieces, and what the tagger reads of it."""
    places, forms, marks, mark = [], [], [], ""
    for index, piece in enumerate(pieces):
        if piece == " ":
            mark += " "
        elif is_word(piece):
            places.append(index)
            forms.append(form(piece))
            marks.append(mark)
            mark = ""
        else:
            mark = mark.strip()[-2:] + piece[:2]
    marks.append(mark)
    around = ["", "", "", *forms, "", ""]
    found = []
    for i, place in enumerate(places):
        farther, far, last, word, next_, further = around[i : i + 6]
        found.append((place, (farther, far, last, marks[i], word, marks[i + 1], next_, further)))
    return found


def features(window: Window) -> list[int]:
    """Rows of the weights that a word in this window adds up."""
    farther, far, last, before, word, after, next_, further = window
    kind = word.partition(" ")[0] if word[:1] == "=" else _letters(word)
    low, prev, then = word.lower(), last.lower(), next_.lower()
    names = (
        "", f"k{kind}", f"f{_any(word)}", f"w{low}", f"e{low[-3:]}",
        f"p{prev}", f"n{then}", f"P{far.lower()}", f"N{further.lower()}", f"b{before}", f"a{after}",
        f"kp{kind} {prev}", f"kn{kind} {then}", f"kba{kind} {before} {after}", f"bp{before} {prev}",
        f"kP{kind} {far.lower()}", f"K{kind} {_any(last)} {_any(next_)}", f"kfp{kind} {before} {prev}",
        f"kbpn{before} {prev} {then}", f"kt{kind[:1]} {before} {tail(last)}", f"ku{kind[:1]} {after} {tail(next_)}",
        f"t{kind} {tail(last)}", f"u{kind} {tail(next_)}", f"T{kind[:1]} {tail(far)}",
        f"v{kind} {prev[-3:]}", f"V{kind[:1]} {before} {prev[-4:]}", f"y{kind} {prev[-2:]}",
        f"F{kind[:1]} {tail(farther)} {far.lower()} {prev}", f"Y{kind[:1]} {tail(far)} {prev}",
    )  # fmt: skip
    return [crc32(name.encode()) & (ROWS - 1) for name in names]


def _any(word: str) -> str:
    """The kind of a word without what it says."""
    return word if word[:1] == "=" else _letters(word)


def _letters(word: str) -> str:
    if word and not word.isalpha():
        return shape(word)
    if word.islower():
        return "lower"
    if word.isupper():
        return "UPPER"
    return "Title" if word[1:].islower() else "camelCase" if word else "edge"


class Tagger:
    """Tags words; `weights`: ROWS × tags, in sixteenths. Remembers decisions, in bounded memory."""

    def __init__(self, weights: Sequence[int]) -> None:
        if len(weights) != ROWS * len(TAGS):
            raise BadInput(f"a tagger has {ROWS} × {len(TAGS)} weights, not {len(weights)}: train it again")
        self._weights = weights
        self._known: dict[Window, tuple[str, float]] = {}

    def tags(self, pieces: Sequence[str]) -> list[tuple[int, str, float]]:
        """For each word its index among the pieces, the category it has if it is a variable, and how sure it is that it
        is one, from 0 to 1: from 0.5 up, it is."""
        found = []
        for place, window in windows(pieces):
            decided = self._known.get(window)
            if decided is None:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                decided = self._known[window] = self._decide(features(window), window[4] in STATIC)
            found.append((place, *decided))
        return found

    def _decide(self, rows: Iterable[int], static: bool) -> tuple[str, float]:
        count, sums = len(TAGS), [0] * len(TAGS)
        for row in rows:
            for tag, weight in enumerate(self._weights[row * count : (row + 1) * count]):
                sums[tag] += weight
        top = max(sums)
        likely = [math.exp((one - top) / SCALE) for one in sums]
        variable = 1.0 - likely[0] / sum(likely)
        best = max(range(1, count), key=sums.__getitem__)
        return TAGS[best], 0.0 if static else variable


@cache
def tagger() -> Tagger:
    """The one that comes with Weft."""
    return Tagger(array("b", files("weft.core.lines").joinpath("tagger.bin").read_bytes()))
