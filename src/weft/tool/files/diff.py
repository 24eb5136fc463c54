"""The unified diff of replacements whose places are known: as long as the changes, not as the file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

CONTEXT = 3
"""Lines around a change."""
_FINE = 400
"""Lines of a changed region above which it is told as a whole."""


class Span(NamedTuple):
    """From `begin` to `end` of a text there comes `new` in the place of what was there."""

    begin: int
    end: int
    new: str


def unified(text: str, spans: Sequence[Span], path: str) -> str:
    """What replacing these spans (sorted, apart from one another) changes in a text."""
    starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
    if starts[-1] < len(text) or len(starts) == 1:
        starts.append(len(text))
    rows, shift = [f"--- {path}\n", f"+++ {path}\n"], 0
    for group in _groups(starts, spans):
        first, last = _lines(starts, group)
        first, last = max(0, first - CONTEXT), min(len(starts) - 1, last + CONTEXT)
        old = text[starts[first] : starts[last]]
        new = applied(old, [Span(begin - starts[first], end - starts[first], word) for begin, end, word in group])
        before, after = _split(old), _split(new)
        for hunk in _hunks(before, after):
            rows += _told(hunk, before, after, first, first + shift)
        shift += len(after) - len(before)
    return "".join(rows)


def applied(text: str, spans: Sequence[Span]) -> str:
    """The text with these spans (sorted, apart from one another) replaced."""
    pieces, at = [], 0
    for begin, end, new in spans:
        pieces += [text[at:begin], new]
        at = end
    return "".join([*pieces, text[at:]])


def _lines(starts: Sequence[int], spans: Sequence[Span]) -> tuple[int, int]:
    """The first line that these spans touch, and the one after the last: with the one that follows, where the end of a
    line may fall away."""
    last = bisect_right(starts, spans[-1].end)
    return bisect_right(starts, spans[0].begin) - 1, min(last, len(starts) - 1)


def _groups(starts: Sequence[int], spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Spans whose contexts meet stand together."""
    group = [spans[0]]
    for before, span in pairwise(spans):
        if _lines(starts, [span])[0] - _lines(starts, [before])[1] > 2 * CONTEXT:
            yield group
            group = []
        group.append(span)
    yield group


def _hunks(before: list[str], after: list[str]) -> list[list[tuple[str, int, int, int, int]]]:
    """The changes of a region, each with its context, as difflib tells them."""
    if max(len(before), len(after)) <= _FINE:
        return [*SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(CONTEXT)]
    head = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    most = min(len(before), len(after)) - head
    pairs = zip(reversed(before), reversed(after), strict=False)
    tail = min(most, next((n for n, (a, b) in enumerate(pairs) if a != b), most))
    a, b = len(before), len(after)
    top, low = max(0, head - CONTEXT), max(0, tail - CONTEXT)
    return [
        [
            ("equal", top, head, top, head),
            ("replace", head, a - tail, head, b - tail),
            ("equal", a - tail, a - low, b - tail, b - low),
        ]
    ]


def _told(
    hunk: list[tuple[str, int, int, int, int]], before: list[str], after: list[str], old: int, new: int
) -> Iterator[str]:
    """A hunk's rows; its region begins behind line `old` of the text before, and behind line `new` of the one after."""
    a, b, c, d = hunk[0][1], hunk[-1][2], hunk[0][3], hunk[-1][4]
    yield f"@@ -{_range(old + a, b - a)} +{_range(new + c, d - c)} @@\n"
    for kind, a, b, c, d in hunk:
        if kind == "equal":
            yield from _rows(" ", before[a:b])
        else:
            yield from _rows("-", before[a:b])
            yield from _rows("+", after[c:d])


def _range(begin: int, length: int) -> str:
    return f"{begin + 1 if length else begin},{length}"


def _rows(sign: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield sign + line if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"


def _split(text: str) -> list[str]:
    """Lines, of which only a newline ends one."""
    pieces = text.split("\n")
    return [piece + "\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
