"""Whether a made case could have happened: by rules that all real ones keep, and by an automaton of them.

A rule relates two activities. `precedes`: none of the second comes before the first of the first; `responds`: after the
last of the first comes one of the second; `answers`: there are never more of the second than of the first before them
(a result follows its call). They are Declare's precedence and response, and a counted form of its alternation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from weft.trace.generation.cases import Case

RARE = 30
"""Cases that must have shown a rule for it to be believed."""


class Likelihood(Protocol):
    """What tells how likely a sequence is, such as `weft.trace.automata.Automaton`: bits, -log2 of the probability, of
    each event and of the end after them; infinite for what can't be."""

    def surprise(self, run: Iterable[str]) -> Sequence[float]: ...


class Rule(msgspec.Struct, frozen=True):
    """Of two activities."""

    kind: Literal["precedes", "responds", "answers"]
    first: str
    second: str

    def keeps(self, activities: Sequence[str]) -> bool:
        """A case that doesn't have what the rule is about keeps it."""
        if self.kind == "precedes":
            return self.second not in activities or self.first in activities[: activities.index(self.second)]
        if self.kind == "responds":
            reversed_ = activities[::-1]
            return self.first not in activities or self.second in reversed_[: reversed_.index(self.first)]
        open = 0
        for activity in activities:
            open += (activity == self.first) - (activity == self.second)
            if open < 0:
                return False
        return True

    def __str__(self) -> str:
        if self.kind == "precedes":
            return f"{self.first} precedes {self.second}"
        return f"{self.second} {'answers' if self.kind == 'answers' else 'responds to'} {self.first}"


def rules_of(cases: Sequence[Case], rare: int = RARE) -> list[Rule]:
    """Rules that all of these cases keep, each shown by at least `rare` of them (by all, where there are fewer)."""
    if not cases:
        return []
    runs = [case.activities for case in cases]
    having = Counter(activity for run in runs for activity in set(run))
    totals = Counter(activity for run in runs for activity in run)
    known = [activity for activity, count in having.items() if count >= min(rare, len(runs))]
    places = [({a: run.index(a) for a in set(run)}, {a: at for at, a in enumerate(run)}) for run in runs]
    found = []
    for first in known:
        for second in known:
            if first == second:
                continue
            if all(begun.get(first, math.inf) < begun[second] for begun, _ in places if second in begun):
                found.append(Rule("precedes", first, second))
            if all(ended[first] < ended.get(second, -1) for _, ended in places if first in ended):
                found.append(Rule("responds", first, second))
            answers = Rule("answers", first, second)
            if totals[first] == totals[second] and all(answers.keeps(run) for run in runs):
                found.append(answers)
    return found


class Validity:
    """`rules`: all must be kept. `likelihood`: an event of a case must not surprise by more than `most` bits on
    average; what has probability 0 never passes."""

    def __init__(self, rules: Sequence[Rule] = (), likelihood: Likelihood | None = None, most: float = 1e9) -> None:
        self.rules = list(rules)
        self.likelihood = likelihood
        self.most = most

    @classmethod
    def of(cls, cases: Sequence[Case], likelihood: Likelihood | None = None) -> Validity:
        """What these cases keep, and none more surprising than the most surprising of them."""
        if likelihood is None:
            return cls(rules_of(cases))
        each = [_bits(likelihood, case) for case in cases]
        return cls(rules_of(cases), likelihood, max((bits for bits in each if math.isfinite(bits)), default=0.0))

    def broken(self, case: Case) -> list[Rule]:
        activities = case.activities
        return [rule for rule in self.rules if not rule.keeps(activities)]

    def passes(self, case: Case) -> bool:
        return not self.broken(case) and (self.likelihood is None or _bits(self.likelihood, case) <= self.most)


def _bits(likelihood: Likelihood, case: Case) -> float:
    found = likelihood.surprise(case.activities)
    return math.fsum(found) / max(1, len(found))
