"""What was seen to come next at a place: exact counts of the next symbol, and sketches of the next few.

Evidence is linear: a merge adds it, and undoing the merge subtracts it again. For each future length from 2 on there is
a count-min sketch of one row, as in the published stream settings (arXiv 2604.02244, CSS): `width` columns, +1 in the
column that the code of the next symbols falls into. Two places are told apart by their evidence alone, so that nothing
of the stream has to be kept.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from weft.core.errors import BadInput

END = -1
"""The code of the end of a sequence."""
ENDED = 1
"""Its hash."""
_PRIME = (1 << 31) - 1


class Evidence(msgspec.Struct):
    """`passed`: how many sequences went through. `next`: what came next, by symbol, `END` too. `futures`: of each
    length from 2 on, how often each column was hit."""

    passed: int
    next: dict[int, int]
    futures: list[list[int]]

    def note(self, symbol: int, columns: Iterable[int]) -> None:
        """One sequence goes through; `columns` as `columns_of` gives them for this place."""
        self.passed += 1
        self.next[symbol] = self.next.get(symbol, 0) + 1
        for row, column in zip(self.futures, columns, strict=True):
            row[column] += 1

    def add(self, other: Evidence, sign: int = 1) -> None:
        """`sign` -1 takes it away again."""
        self.passed += sign * other.passed
        for symbol, count in other.next.items():
            left = self.next.get(symbol, 0) + sign * count
            if left:
                self.next[symbol] = left
            else:
                self.next.pop(symbol, None)
        for row, added in zip(self.futures, other.futures, strict=True):
            for column, count in enumerate(added):
                row[column] += sign * count

    def recoded(self, codes: Mapping[int, int]) -> Evidence:
        """The same in another alphabet, where several codes may have become one. The futures stay as they are: they are
        of texts, not of codes."""
        found: dict[int, int] = {}
        for symbol, count in self.next.items():
            found[codes[symbol]] = found.get(codes[symbol], 0) + count
        return Evidence(self.passed, found, self.futures)


def nothing(futures: int, width: int) -> Evidence:
    """The evidence of a place where nothing has been seen."""
    return Evidence(0, {}, [[0] * width for _ in range(futures - 1)])


def hash_of(symbol: str) -> int:
    """The same in all processes, so that sketches of several workers can be added. Raises BadInput for half a
    character (a lone surrogate), which nothing could keep."""
    try:
        return zlib.crc32(symbol.encode()) + 2
    except UnicodeEncodeError:
        raise BadInput(f"a symbol is a text that UTF-8 can write, not {symbol!r}") from None


def columns_of(hashes: Sequence[int], futures: int, width: int) -> list[tuple[int, ...]]:
    """For each place of a sequence, given by its symbols' hashes and `ENDED`, the column of the next 2, 3, ...
    `futures` symbols."""
    count = len(hashes)
    codes = [*hashes]
    rows = []
    for length in range(2, futures + 1):
        far = [hashes[at + length - 1] if at + length <= count else 0 for at in range(count)]
        codes = [(code * 1_000_003 + seen * 7_919 + length) % _PRIME for code, seen in zip(codes, far, strict=True)]
        rows.append([code * 2_654_435_761 % _PRIME % width for code in codes])
    return list(zip(*rows, strict=True)) if rows else [()] * count


# --- are two places the same? ----------------------------------------------------------------------------------------


class Test(Protocol):
    """Whether two places can't be the same state."""

    def differ(self, one: Evidence, other: Evidence) -> bool: ...


class Hoeffding(msgspec.Struct, frozen=True):
    """The published test (ALERGIA's bound): a relative frequency differs by more than
    sqrt(ln(2 / alpha) / 2) (1/sqrt(n1) + 1/sqrt(n2)), for a next symbol or for a column of a sketch."""

    alpha: float = 0.05

    def differ(self, one: Evidence, other: Evidence) -> bool:
        if not one.passed or not other.passed:
            return False
        bound = math.sqrt(0.5 * math.log(2 / self.alpha)) * (1 / math.sqrt(one.passed) + 1 / math.sqrt(other.passed))
        return any(
            abs(mine / one.passed - theirs / other.passed) > bound
            for table in _tables(one, other)
            for mine, theirs in table
        )


class ChiSquare(msgspec.Struct, frozen=True):
    """The default, which sees many small differences at once: the two-sample chi-square statistic of the next symbols,
    and of each sketch, lies more than `deviations` standard deviations beyond what chance gives (Wilson and Hilferty's
    normal form; cells with an expected count under 4 are pooled)."""

    deviations: float = 4.0

    def differ(self, one: Evidence, other: Evidence) -> bool:
        if not one.passed or not other.passed:
            return False
        passed = one.passed, other.passed
        return any(_deviation(table, *passed) > self.deviations for table in _tables(one, other))


def likeness(one: Evidence, other: Evidence) -> float:
    """The published score: the cosines of the next symbols and of each sketch, added up."""
    return sum(_cosine(table) for table in _tables(one, other))


def _tables(one: Evidence, other: Evidence) -> Iterable[list[tuple[int, int]]]:
    symbols = one.next.keys() | other.next.keys()
    yield [(one.next.get(symbol, 0), other.next.get(symbol, 0)) for symbol in symbols]
    for mine, theirs in zip(one.futures, other.futures, strict=True):
        yield list(zip(mine, theirs, strict=True))


def _deviation(table: list[tuple[int, int]], first: int, second: int) -> float:
    share = first / (first + second)
    square, cells, rest = 0.0, 0, (0, 0)
    for mine, theirs in table:
        expected = (mine + theirs) * share, (mine + theirs) * (1 - share)
        if min(expected) < 4:
            rest = rest[0] + mine, rest[1] + theirs
        else:
            square += (mine - expected[0]) ** 2 / expected[0] + (theirs - expected[1]) ** 2 / expected[1]
            cells += 1
    expected = sum(rest) * share, sum(rest) * (1 - share)
    if min(expected) >= 1:
        square += (rest[0] - expected[0]) ** 2 / expected[0] + (rest[1] - expected[1]) ** 2 / expected[1]
        cells += 1
    freedom = cells - 1
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(((square / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


def _cosine(table: list[tuple[int, int]]) -> float:
    product = sum(mine * theirs for mine, theirs in table)
    lengths = sum(mine * mine for mine, _ in table) * sum(theirs * theirs for _, theirs in table)
    return product / math.sqrt(lengths) if lengths else 0.0
