"""Whether something is wrong with a run: signs of the simple ways in which a usual run is spoilt.

A long run has rare events anyhow, so how surprising it is on the whole says little. A sign asks a narrower question.
Six are looked for, the evidence of each in bits:

- `exchanged`: two calls at most six apart stand in each other's place;
- `repeated`: up to five calls are made again and again, with the same results;
- `misplaced`: calls stand earlier or later in the run than calls of their names do;
- `unknown`: something was called that nobody ever called;
- `ended`: it ends where runs do not end;
- `surprising`: none of these, but events that surprise (`Automaton.score`).

The first two are likelihood ratios (Neyman and Pearson): how much likelier would this very run be, had the one thing
gone otherwise, at any place alike? There the run is compared with itself, so what is only peculiar to it cancels out.

How much evidence usual runs give differs from sign to sign, so each is judged by theirs (`Tails`), and a run by all:
the shares of usual runs that give as much evidence, in bits, added up as Fisher did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean, median
from typing import Literal

import msgspec

from weft.trace.automata.model import scored
from weft.trace.automata.symbols import About, Call, about, symbols_of

Kind = Literal["exchanged", "repeated", "misplaced", "unknown", "ended", "surprising"]
Teller = Callable[[Sequence[str]], Sequence[float]]
"""Bits of each symbol of a run, and of its end: `Automaton.teller()`, or any other model of sequences."""

APART = 6
"""Calls that are taken for exchanged lie at most so far apart."""
PERIOD = 5
"""Calls that are repeated together."""
PLACES, EVENTS = 64, 20_000
"""Exchanges are tried at so many places, the most surprising ones; fewer in a run so long that this would be more
events to tell than these, times `APART` and two."""
NONE = -20.0
"""The least evidence, in bits, and what it is where there is no place for it."""
FEW = 10
"""Usual runs below which nothing is called rare."""
LATEST, NAMES = 1000, 2000
"""Usual runs that are remembered, and names whose places are."""
HIGH = 0.8
"""The part of the usual runs beyond which an exponential tail is laid through the rest."""
FINEST = 1.0
"""The least mean excess of that tail, in bits: less is no difference."""


class Sign(msgspec.Struct, frozen=True):
    """`bits`: the evidence. `at`: the calls that it is most likely about, from 0 on: both that are `exchanged`, the
    first and the last that are `repeated`, all of a name that are `misplaced`, the most surprising one."""

    kind: Kind
    bits: float
    at: tuple[int, ...] = ()


class Places(msgspec.Struct):
    """Where calls of a name stand in usual runs: of each name that was ever called, the mean place, from 0 (first) to 1
    (last), in each of the latest runs."""

    usual: dict[str, list[float]] = {}

    def note(self, calls: Sequence[Call]) -> None:
        for name, places in _places(calls).items():
            if name in self.usual or len(self.usual) < NAMES:
                values = self.usual.setdefault(name, [])
                values.append(fmean(places) / len(calls))
                del values[:-LATEST]

    def misplaced(self, calls: Sequence[Call]) -> Sign:
        """The share of usual runs where calls of a name stand as far from their usual place, in bits, as a mean of all
        names."""
        found = []
        for name, places in _places(calls).items():
            if len(values := self.usual.get(name, [])) >= FEW:
                usual = median(values)
                far = abs(fmean(places) / len(calls) - usual)
                share = (sum(abs(value - usual) >= far for value in values) + 1) / (len(values) + 1)
                found.append((-math.log2(share), tuple(places)))
        return Sign("misplaced", fmean(bits for bits, _ in found), max(found)[1]) if found else Sign("misplaced", 0.0)


def _places(calls: Sequence[Call]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at, call in enumerate(calls):
        found.setdefault(call.name, []).append(at)
    return found


def signs(calls: Sequence[Call], tell: Teller, places: Places) -> list[Sign]:
    """Of each kind, the evidence in a run."""
    abouts = [about(call) for call in calls]
    bits = tell(symbols_of(abouts))
    unknown = [(bits[at], (at,)) for at, call in enumerate(calls) if call.name not in places.usual]
    worst = max(range(len(bits)), key=bits.__getitem__)
    return [
        _any("exchanged", _exchanged(abouts, bits, tell), APART * len(abouts)),
        _any("repeated", _repeated(abouts, bits), len(abouts)),
        places.misplaced(calls),
        Sign("unknown", *max(unknown, default=(0.0, ()))),
        Sign("ended", bits[-1]),
        Sign("surprising", scored(bits), (worst,) if worst < len(calls) else ()),
    ]


Found = Iterator[tuple[float, tuple[int, ...]]]
"""Bits that are saved, and where."""


def _any(kind: Kind, found: Found, places: int) -> Sign:
    """Anywhere: the mean of the likelihood ratios of all places."""
    saved = sorted(found)
    if not saved:
        return Sign(kind, NONE)
    most, at = saved[-1]
    bits = most + math.log2(math.fsum(2 ** (one - most) for one, _ in saved)) - math.log2(places)
    return Sign(kind, max(bits, NONE), at)


def _exchanged(abouts: list[About], bits: Sequence[float], tell: Teller) -> Found:
    """Had these two not changed places: what is told of later calls may change, too."""
    count, before, now = len(abouts), symbols_of(abouts), math.fsum(bits)
    likely = sorted(range(count), key=lambda at: -bits[at])[: max(4, min(PLACES, EVENTS // max(count, 1)))]
    near = [(at, to) for at in likely for to in range(max(0, at - APART), min(count, at + APART + 1)) if to != at]
    for one, other in sorted({(min(pair), max(pair)) for pair in near}):
        back = [*abouts]
        back[one], back[other] = back[other], back[one]
        if (after := symbols_of(back)) != before:
            yield now - math.fsum(tell(after)), (one, other)


def _repeated(abouts: list[About], bits: Sequence[float]) -> Found:
    """Copies cost what says how many calls are copied, and how many times; where, is said for all of them."""
    same = [one.same or one.name for one in abouts]
    for period in range(1, PERIOD + 1):
        at = period
        while at < len(same):
            to = at
            while to < len(same) and same[to] == same[to - period]:
                to += 1
            if times := (to - at) // period:
                saved = math.fsum(bits[at : at + times * period])
                yield saved - 2 - 2 * math.log2(times + 1), (at, at + times * period - 1)
            at = to + 1


class Tails(msgspec.Struct):
    """How much evidence usual runs give, by kind of sign: of the latest that were judged before they were learnt."""

    usual: dict[Kind, list[float]] = {}

    def note(self, found: Sequence[Sign]) -> None:
        for sign in found:
            values = self.usual.setdefault(sign.kind, [])
            values.append(sign.bits)
            del values[:-LATEST]

    def rare(self, sign: Sign) -> float:
        """The share of usual runs that gave as much evidence, counting this one: about how often that is a false
        alarm."""
        values = self.usual.get(sign.kind, [])
        return (sum(value >= sign.bits for value in values) + 1) / (len(values) + 1)

    def score(self, found: Sequence[Sign]) -> float:
        """How unusual a run is, by all its signs, in bits; 0 where usual runs are too few to say."""
        return math.fsum(self._unlikely(sign) for sign in found)

    def _unlikely(self, sign: Sign) -> float:
        """The share of usual runs in bits; beyond most of them, that of an exponential tail (peaks over threshold), so
        that more evidence counts more."""
        values = sorted(self.usual.get(sign.kind, []))
        if len(values) < FEW:
            return 0.0
        high = int(HIGH * len(values))
        beyond = sign.bits - values[high]
        if beyond <= 0:
            return -math.log2(self.rare(sign))
        excess = max(FINEST, math.fsum(values[high:]) / len(values[high:]) - values[high])
        return -math.log2(1 - HIGH) + beyond / excess * math.log2(math.e)


def tails_of(runs: Sequence[Sequence[Call]], learn: Callable[[list[Sequence[Call]]], Teller], parts: int = 5) -> Tails:
    """Of few usual runs: each is judged by what `learn` makes of the others (cross-fitting, in `parts`)."""
    found = Tails()
    for part in range(min(parts, len(runs)) if len(runs) > 1 else 0):
        others = [run for number, run in enumerate(runs) if number % parts != part]
        tell, places = learn(others), places_of(others)
        for run in runs[part::parts]:
            found.note(signs(run, tell, places))
    return found


def places_of(runs: Iterable[Sequence[Call]]) -> Places:
    found = Places()
    for run in runs:
        found.note(run)
    return found
