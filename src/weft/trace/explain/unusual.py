"""What is not as in earlier runs: times, counts, the form of answers, and the order of what happened.

Each is judged against the earlier runs that were done, and says nothing where these are too few. `Finding.sure` counts
in how many places was looked: of ten measures one in a hundred is beyond its bound in a tenth of all usual runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import msgspec

from weft.trace.automata import Automaton, Learner
from weft.trace.explain.finding import Finding, Kind
from weft.trace.explain.past import Past, beyond, unseen
from weft.trace.explain.profile import Part, Profile, Seen

FEW = 5
"""Earlier runs below which nothing is called unusual."""
SURE = 0.5
"""Below it a finding is not worth a person's time."""
OUTSIDE = ("ask", "receive", "event", "sleep", "timer", "child", "spawn")
"""How long these take is not theirs to say: people, letters, children."""
NEW, ODD = 0.8, 0.95
"""How sure a departure must be: to what no earlier run did; to what an automaton did not expect."""
LEAST = {"seconds": 0.02, "waited": 0.05, "MB of memory": 8.0}
"""How far above the usual mean a difference begins to matter."""

Measured = Mapping[tuple[str, str], tuple[float, Seen]]
"""The largest value of each measure of each symbol, and the effect that had it."""


# --- times, sizes, counts -------------------------------------------------------------------------------------------


def slow(run: Profile, past: Past) -> list[Finding]:
    """What took longer, waited longer or took more memory than in any earlier run."""
    return list(_compared(run, past, "slow", _times))


def count(run: Profile, past: Past) -> list[Finding]:
    """What was done more often than in any earlier run, or tried again more often."""
    return list(_compared(run, past, "count", _counts))


def _times(part: Part) -> Measured:
    found: dict[tuple[str, str], tuple[float, Seen]] = {}
    for one in part.seen:
        if one.status in ("ok", "failed") and not one.symbol.startswith(OUTSIDE):
            amounts = {"seconds": one.seconds - one.paused, "waited": one.waited, "MB of memory": one.memory / 1e6}
            for name, amount in amounts.items():
                if (name, one.symbol) not in found or amount > found[name, one.symbol][0]:
                    found[name, one.symbol] = amount, one
    return found


def _counts(part: Part) -> Measured:
    found: dict[tuple[str, str], tuple[float, Seen]] = {}
    for one in part.seen:
        found["times", one.symbol] = found.get(("times", one.symbol), (0.0, one))[0] + 1, one
        if one.attempts > found.get(("attempts", one.symbol), (0.0, one))[0]:
            found["attempts", one.symbol] = float(one.attempts), one
    return found


def _compared(run: Profile, past: Past, kind: Kind, measure: Callable[[Part], Measured]) -> Iterable[Finding]:
    measured = [(part, measure(part)) for part in run.parts]
    looked = max(1, sum(len(found) for _, found in measured))
    usual: dict[str, list[Measured]] = {name: [measure(part) for part in parts] for name, parts in past.parts.items()}
    for part, found in measured:
        for (name, symbol), (amount, one) in found.items():
            earlier = [old[name, symbol][0] for old in usual.get(part.workflow, ()) if (name, symbol) in old]
            sure = 1 - looked * beyond(amount, earlier)
            if sure < SURE or amount - sum(earlier) / len(earlier) < LEAST.get(name, 0.0):
                continue
            words, effects = _told(name, symbol, amount, earlier), (run.id(part, one),)
            yield Finding(kind=kind, words=words, effects=effects, sure=sure, at=one.at)


def _told(name: str, symbol: str, amount: float, earlier: list[float]) -> str:
    usual, most = sorted(earlier)[len(earlier) // 2], max(earlier)
    match name:
        case "times":
            return f"{symbol} was done {amount:.0f} times; usual are {usual:.0f}, at most {most:.0f} so far"
        case "attempts":
            return f"{symbol} took {amount:.0f} attempts; usual are {usual:.0f}, at most {most:.0f} so far"
        case "waited":
            return (
                f"{symbol} waited {amount:.3g} s before it began; usual are {usual:.2g} s, at most {most:.2g} s so far"
            )
    took = f"{amount:.3g} {'s' if name == 'seconds' else name}"
    return f"{symbol} took {took}; usual are {usual:.2g}, at most {most:.2g} so far"


# --- answers --------------------------------------------------------------------------------------------------------


def answer(run: Profile, past: Past) -> list[Finding]:
    """What steps and tools answered in a form, in words or in an amount that none had so far."""
    asked = [(part, one) for part in run.parts for one in part.seen if one.form]
    looked = 3 * max(1, len({(part.workflow, one.symbol) for part, one in asked}))
    usual: dict[tuple[str, str], list[Seen]] = {}
    for name, parts in past.parts.items():
        for part in parts:
            for one in part.seen:
                if one.form:
                    usual.setdefault((name, one.symbol), []).append(one)
    found: dict[tuple[str, str, str], Finding] = {}
    for part, one in asked:
        earlier = usual.get((part.workflow, one.symbol), [])
        if len(earlier) < FEW or (told := _odd(one, earlier, looked)) is None:
            continue
        words, sure = told
        new = Finding(kind="answer", words=words, effects=(run.id(part, one),), sure=sure, at=one.at)
        known = found.get((part.id, one.symbol, one.form))
        if known is not None:
            new = msgspec.structs.replace(known, effects=(*known.effects, *new.effects))
        found[part.id, one.symbol, one.form] = new
    return [*found.values()]


def _odd(one: Seen, earlier: list[Seen], looked: int) -> tuple[str, float] | None:
    """What is odd about an answer, and how sure that is."""
    forms = Counter(old.form for old in earlier)
    sure = 1 - looked * unseen(forms)
    if one.form not in forms and sure >= SURE:
        return f"{one.symbol} answered {_brief(one.form)}; so far it was {_brief(forms.most_common(1)[0][0])}", sure
    said = Counter(old.said for old in earlier)
    sure = 1 - looked * unseen(said)
    if one.said not in said and sure >= SURE:
        return f"{one.symbol} said {_brief(one.said)!r}; so far it said {_brief(said.most_common(1)[0][0])!r}", sure
    amounts = [old.amount for old in earlier if old.amount is not None]
    sure = 1 - looked * (beyond(one.amount, amounts) if one.amount is not None and min(amounts, default=-1) >= 0 else 1)
    if sure >= SURE:
        what = "the number" if one.form == "number" else "an answer of length"
        return f"{one.symbol} answered {what} {one.amount:g}; so far it was at most {max(amounts):g}", sure
    return None


def _brief(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


# --- order ----------------------------------------------------------------------------------------------------------


class Order:
    """Where a process left its usual way: at the first event that is new, or that an automaton did not expect.

    New: no earlier run had this event after the one before it, and hardly any of them had such a pair that the others
    had not. Not expected: it surprises more than the worst event of nearly every earlier run did. How much surprise is
    usual is measured on runs that an automaton has not learnt: each half of the earlier runs is judged by the one that
    learnt the other half, and so is the run at hand (cross-conformal prediction, Vovk 2015). So `sure` is right however
    well the automaton has learnt.
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
