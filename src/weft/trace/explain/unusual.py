"""What is not as in earlier runs: times, counts, the form of answers, and the order of what happened.

Each is judged against the earlier runs that were done, and says nothing where these are too few. `Finding.sure` is
counted in whole runs: 1 less the share of earlier runs in which as much would have been found anywhere, each judged by
the others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

from weft.trace.automata import Automaton, Learner
from weft.trace.explain.finding import Finding, Kind
from weft.trace.explain.past import Past
from weft.trace.explain.profile import OUTSIDE, Part, Profile, Seen

FEW = 5
"""Earlier runs below which nothing is called unusual."""
NEW, ODD = 0.8, 0.95
"""How sure a departure must be: to what no earlier run did; to what an automaton did not expect."""
FAR = 4.0
"""Deviations below which nothing is called unusual, however sure it is that it never was so far."""
FINEST = 0.1
"""The least deviation of a logarithm: a tenth more or less is nothing."""
BOTH_WAYS = ("number", "length")
"""Measures of which too little is unusual, too."""
LEAST = {"seconds": 0.02, "waited": 0.05, "MB of memory": 8.0}
"""How far above the usual mean a difference begins to matter."""

Key = tuple[str, str, str]
"""Workflow, symbol, measure."""
Measured = dict[Key, tuple[float, Part, Seen]]
"""The value that a run has, and the effect that had it."""


# --- times, sizes, counts -------------------------------------------------------------------------------------------


def slow(run: Profile, past: Past) -> list[Finding]:
    """What took longer, waited longer or took more memory than in any earlier run."""
    return _compared(run, past, "slow", _times)


def count(run: Profile, past: Past) -> list[Finding]:
    """What was done more often in one process than in any earlier run, or tried again more often."""
    return _compared(run, past, "count", _counts)


def _times(run: Profile) -> Measured:
    found: Measured = {}
    for part in run.parts:
        for one in part.seen:
            if one.status in ("ok", "failed") and not one.symbol.startswith(OUTSIDE):
                amounts = {"seconds": one.seconds - one.paused, "waited": one.waited, "MB of memory": one.memory / 1e6}
                for name, amount in amounts.items():
                    _most(found, (part.workflow, one.symbol, name), amount, part, one)
    return found


def _counts(run: Profile) -> Measured:
    found: Measured = {}
    for part in run.parts:
        times = Counter(one.symbol for one in part.seen)
        for one in part.seen:
            _most(found, (part.workflow, one.symbol, "times"), times[one.symbol], part, one)
            _most(found, (part.workflow, one.symbol, "attempts"), one.attempts, part, one)
    return found


def _most(found: Measured, key: Key, amount: float, part: Part, one: Seen) -> None:
    if key not in found or amount >= found[key][0]:
        found[key] = amount, part, one


def _compared(run: Profile, past: Past, kind: Kind, measure: Callable[[Profile], Measured]) -> list[Finding]:
    """What is further from the mean than all of the earlier runs are, and further than the furthest measure of nearly
    every one of them is. Each earlier run is measured by the others."""
    usual = [measure(old) for old in past.usual]
    scales: dict[Key, Scale] = {}
    for key in measure(run):
        values = [old[key][0] for old in usual if key in old]
        if len(values) >= FEW:
            scales[key] = Scale(key[2], values)
    furthest = [max((scales[k].far(old[k][0], True) for k in old if k in scales), default=0.0) for old in usual]
    found = []
    for key, (amount, part, one) in measure(run).items():
        far = scales[key].far(amount) if key in scales and not scales[key].holds(amount) else 0.0
        sure = 1 - (sum(other >= far for other in furthest) + 1) / (len(usual) + 1)
        if far >= FAR and sure >= needed(len(usual)):
            words = _told(key[2], key[1], amount, scales[key])
            found.append(Finding(kind=kind, words=words, effects=(run.id(part, one),), sure=sure, at=one.at))
    return found


def needed(runs: int) -> float:
    """How sure a finding must be that is judged by so many earlier runs: of few, there may be none like it."""
    return min(ODD, 1 - 1 / (runs + 1))


class Scale:
    """What is usual of a measure: mean and deviation of its logarithm, as times and counts have long tails."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name = name
        self.values = sorted(values)
        logs = [_log(one) for one in values]
        self.count, self.sum, self.squares = len(logs), math.fsum(logs), math.fsum(one * one for one in logs)

    def holds(self, value: float) -> bool:
        """Whether it is within what was seen; of a time or a count, too little is within."""
        return value <= self.values[-1] and (self.name not in BOTH_WAYS or value >= self.values[0])

    def far(self, value: float, among: bool = False) -> float:
        """How many deviations it is away. `among`: it is one of the values, and is measured by the others."""
        own, less = (_log(value), 1) if among else (0.0, 0)
        count = self.count - less
        mean = (self.sum - own) / count
        variance = (self.squares - own * own) / count - mean * mean
        if abs(value - math.exp(mean)) < LEAST.get(self.name, 0.0):
            return 0.0
        away = (_log(value) - mean) / max(math.sqrt(max(variance, 0.0)), FINEST)
        return abs(away) if self.name in BOTH_WAYS else away


def _log(value: float) -> float:
    return math.log(max(value, 1e-3))


def _told(name: str, symbol: str, amount: float, scale: Scale) -> str:
    usual, least, most = scale.values[len(scale.values) // 2], scale.values[0], scale.values[-1]
    match name:
        case "times":
            return f"{symbol} was done {amount:.0f} times; usual are {usual:.0f}, at most {most:.0f} so far"
        case "attempts":
            return f"{symbol} took {amount:.0f} attempts; usual are {usual:.0f}, at most {most:.0f} so far"
        case "number":
            return f"{symbol} answered the number {amount:.6g}; so far it was {least:.6g} to {most:.6g}"
        case "length":
            return f"{symbol} answered with a length of {amount:g}; so far it was {least:g} to {most:g}"
        case "waited":
            return (
                f"{symbol} waited {amount:.3g} s before it began; usual are {usual:.2g} s, at most {most:.2g} s so far"
            )
    took = f"{amount:.3g} {'s' if name == 'seconds' else name}"
    return f"{symbol} took {took}; usual are {usual:.2g}, at most {most:.2g} so far"


# --- answers --------------------------------------------------------------------------------------------------------


Who = tuple[str, ...]
"""Of whom a fact is: workflow, symbol, and perhaps more."""
Facts = Callable[[Part, Seen], Iterable[tuple[Who, str]]]


class Told:
    """What was told in earlier runs: the form of an answer, a line of it.

    A new fact is the more telling the more seldom those whom it is of tell one; it is sure if as telling news were in
    few earlier runs, each of them judged by the others. So `sure` is right whatever the facts are, and who often tells
    something new spoils nobody else's.
    """

    def __init__(self, past: Past, facts: Facts) -> None:
        runs = [{fact for part in run.parts for one in part.seen for fact in facts(part, one)} for run in past.usual]
        self.runs = Counter(fact for told in runs for fact in told)
        """In how many runs it was told."""
        self.asked = Counter(who for told in runs for who in {who for who, _ in told})
        alone = [{who for who, what in told if self.runs[who, what] == 1} for told in runs]
        self.alone = Counter(who for each in alone for who in each)
        self._most = [max((1 - self.alone[who] / self.asked[who] for who in each), default=-1.0) for each in alone]

    def sure(self, who: Who, what: str) -> float:
        """How sure it is that a fact is unusual; 0 for one that was told before, or where too few told one."""
        if not self.new(who, what) or self.asked[who] < FEW:
            return 0.0
        telling = 1 - (self.alone[who] + 1) / (self.asked[who] + 1)
        return 1 - (sum(other >= telling for other in self._most) + 1) / (len(self._most) + 1)

    def new(self, who: Who, what: str) -> bool:
        """No usual run told it."""
        return (who, what) not in self.runs

    def usual(self, who: Who) -> str:
        """The fact that was told in most runs."""
        return max((fact for fact in self.runs if fact[0] == who), key=lambda fact: self.runs[fact])[1]


def answer(run: Profile, past: Past) -> list[Finding]:
    """What steps and tools answered in a form, or in an amount, that none had so far."""
    forms = Told(past, lambda part, one: [((part.workflow, one.symbol), one.form)] if one.form else [])
    found: dict[tuple[str, str, str], Finding] = {}
    for part in run.parts:
        for one in part.seen:
            who = part.workflow, one.symbol
            if one.form and (sure := forms.sure(who, one.form)) >= NEW:
                words = f"{one.symbol} answered {_brief(one.form)}; so far it was {_brief(forms.usual(who))}"
                key = (part.id, one.symbol, words)
                before = found[key].effects if key in found else ()
                effects = (*before, run.id(part, one))
                found[key] = Finding(kind="answer", words=words, effects=effects, sure=sure, at=one.at)
    return [*found.values(), *_compared(run, past, "answer", _amounts)]


def _amounts(run: Profile) -> Measured:
    found: Measured = {}
    for part in run.parts:
        for one in part.seen:
            if one.amount is not None and one.amount >= 0:
                name = "number" if one.form == "number" else "length"
                _most(found, (part.workflow, one.symbol, name), one.amount, part, one)
    return found


def _brief(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


# --- order ----------------------------------------------------------------------------------------------------------


class Order:
    """Where a process left its usual way: at the first event that is new, or that an automaton did not expect.

    New: no earlier run had this event after the one before it, and hardly any of them had such a pair that the others
    had not. Not expected: it surprises more than the worst event of nearly every earlier run did. How much surprise is
    usual is measured on runs that an automaton has not learnt: each half of the earlier runs is judged by the one that
    learnt the other half, and so is the run at hand (cross-conformal prediction, Vovk 2015). So `sure` is right however
    well the automaton has learnt. A model that `weft trace learn` kept has learnt all of them, and can't be used here.
    """

    def __call__(self, run: Profile, past: Past) -> list[Finding]:
        found = []
        for part in run.parts:
            earlier = [_way(one) for one in past.parts.get(part.workflow, ())]
            if len(earlier) >= FEW and (left := _left(_way(part), earlier, part.state == "done")) is not None:
                at, sure = left
                one = part.seen[min(at, len(part.seen) - 1)] if part.seen else None
                effect, when = (part.id, run.created) if one is None else (run.id(part, one), one.at)
                words = f"it left its usual way at {_left_at(part, at)}; usual there: {_expected(part, at, earlier)}"
                found.append(Finding(kind="departure", words=words, effects=(effect,), sure=sure, at=when))
        return found


def _left(way: list[str], earlier: list[list[str]], ended: bool) -> tuple[int, float] | None:
    """The place where it left, and how sure that is. What comes after is a consequence. `ended`: its end counts, too;
    that one which failed ended early is no news."""
    pairs = Counter(pair for one in earlier for pair in {*_pairs(one)})
    news = sum(any(pairs[pair] == 1 for pair in _pairs(one)) for one in earlier)
    halves = ((_learnt(earlier[::2]), earlier[1::2]), (_learnt(earlier[1::2]), earlier[::2]))
    judged = [(model.surprise(way), [max(model.surprise(one)) for one in others]) for model, others in halves]
    for at, pair in enumerate(_pairs(way) if ended else _pairs(way)[:-1]):
        as_much = sum(worst >= bits[at] for bits, others in judged for worst in others)
        new, odd = (1 - (count + 1) / (len(earlier) + 1) for count in (news, as_much))
        if pair not in pairs and new >= NEW:
            return at, new
        if odd >= ODD:
            return at, odd
    return None


def _pairs(way: list[str]) -> list[tuple[str, str]]:
    return [*pairwise(["", *way, ""])]


def _left_at(part: Part, at: int) -> str:
    return part.seen[at].told if at < len(part.seen) else "its end"


def _expected(part: Part, at: int, earlier: list[list[str]]) -> str:
    told = _learnt(earlier).expected(_way(part)[:at])[:3]
    return ", ".join(f"{name} ({share:.0%})" for name, share in told)


def _way(part: Part) -> list[str]:
    return [one.told for one in part.seen]


def _learnt(ways: list[list[str]]) -> Automaton:
    learner = Learner(least=10)
    for way in ways:
        learner.feed(way)
    return learner.model()
