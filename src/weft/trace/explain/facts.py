"""What the journal says in so many words: refused, stale, paused, failed; and whether a failure was seen before.

These are facts, so they are sure; how common they are among usual runs says whether they explain anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.core.memory import operation_id
from weft.core.resources import LONG
from weft.trace.anomalies import Finding as Anomaly
from weft.trace.explain.finding import Finding
from weft.trace.explain.past import Past
from weft.trace.explain.profile import Part, Profile, Seen

BEGIN = "memory:begin"
SHOWN = 160
"""Characters of an error."""


def refused(run: Profile, past: Past) -> list[Finding]:
    """What it was not allowed to do."""
    found = []
    for part in run.parts:
        for one in part.refused:
            fact = f"{one.action} {one.resource}"
            share = past.share(
                ([f"{r.action} {r.resource}" for p in old.parts for r in p.refused] for old in past.usual), fact
            )
            why = f": it would have carried {one.label} out" if one.label else ""
            words = f"it was refused {fact}{why}{_often(share)}"
            found.append(Finding(kind="refused", words=words, effects=(run.id(part, one),), common=share, at=one.at))
    return found


def paused(run: Profile, past: Past) -> list[Finding]:
    """Calls that were paused because memory was short, long enough to tell of."""
    found = []
    for part, one in _each(run):
        if one.paused >= LONG:
            share = past.share(
                ([s.symbol for p in old.parts for s in p.seen if s.paused >= LONG] for old in past.usual), one.symbol
            )
            took = f"{one.paused:.1f} s of {one.seconds:.1f} s"
            words = f"{one.symbol} was paused for {took}, because memory was short on the machine{_often(share)}"
            found.append(Finding(kind="paused", words=words, effects=(run.id(part, one),), common=share, at=one.at))
    return found


def failed(run: Profile, past: Past) -> list[Finding]:
    """Effects that failed: the deepest, not those that only passed a child's failure on. A failure of the run that no
    effect had is that of a body, of the lowest process that failed."""
    inner = {part.id for part in run.parts if part.state == "failed"}
    if inner:  # with whose failure the others' work was called off
        inner |= {part.id for part in run.parts if part.state == "cancelled"}
    found = []
    for part, one in _each(run):
        if one.status == "failed" and one.child not in inner:
            fact = one.told
            share = past.share((failures_of(old) for old in past.usual), fact)
            tries = f" after {one.attempts} attempts" if one.attempts > 1 else ""
            words = f"{one.symbol} failed{tries}: {_cut(one.error)}{_often(share)}"
            found.append(Finding(kind="failed", words=words, effects=(run.id(part, one),), common=share, at=one.at))
    if run.failure is not None and not any(run.failure.message[:60] in one.words for one in found):
        raised = next((part for part in reversed(run.parts) if part.state == "failed"), run.parts[0])
        error = _cut(f"{run.failure.error}: {run.failure.message}")
        words = f"the code of {raised.workflow.rpartition('.')[2]} raised {error}"
        found.append(Finding(kind="failed", words=words, effects=(raised.id,), at=run.failure.at))
    return found


def failures_of(run: Profile) -> set[str]:
    """Which effects failed in it."""
    return {one.told for _, one in _each(run) if one.status == "failed"}


def before(run: Profile, past: Past) -> list[Finding]:
    """Earlier runs that failed in the same way."""
    if run.failure is None:
        return []
    like = past.failures.like(run.failure)
    if not like:
        return []
    names = [one.failure.run for one in like]
    first = min(like, key=lambda one: one.failure.at).failure.run
    runs = "1 earlier run" if len(names) == 1 else f"{len(names)} earlier runs"
    words = f"the same failure was seen in {runs}, first in {first}; the likest is {names[0]}"
    return [Finding(kind="before", words=words, effects=tuple(names), sure=like[0].likeness, at=run.failure.at)]


def stale(anomalies: Sequence[Anomaly], run: Profile, past: Past) -> list[Finding]:
    """Anomalies of shared memory in a run's operations. `anomalies` are those of all who shared a memory with it, its
    predecessors among the usual runs, too (`weft.trace.anomalies`)."""
    suffered: dict[str, list[Anomaly]] = {}
    for one in anomalies:
        suffered.setdefault(one.operation, []).append(one)
    usual = [[_cell(a) for id in _operations(old) for a in suffered.get(id, ())] for old in past.usual]
    own = _operations(run)
    found = []
    for id, (part, begin) in own.items():
        for one in suffered.get(id, ()):
            share = past.share(usual, _cell(one))
            words = f"{NAMED[one.kind]}: {one.words}{_often(share)}"
            for each, (inside, start) in own.items():
                words = words.replace(each, run.id(inside, start))
            found.append(Finding(kind="stale", words=words, effects=(run.id(part, begin),), common=share, at=begin.at))
    return found


def _operations(run: Profile) -> dict[str, tuple[Part, Seen]]:
    """The operations on shared memory that it began, by id, each with the effect that began it."""
    return {operation_id(part.id, one.effect): (part, one) for part, one in _each(run) if one.symbol == BEGIN}


NAMED = {
    "A1": "it worked on a value that had changed meanwhile",
    "A2": "a tool had become another one",
    "A3": "it is built on something that was undone",
    "A6": "effects of tools came about in another order",
    "residue": "it read what nobody in the trace wrote",
}


def _cell(anomaly: Anomaly) -> str:
    """What tells apart anomalies that may be usual."""
    return f"{anomaly.kind} {anomaly.cell or ','.join(anomaly.tools)}"


def _each(run: Profile) -> list[tuple[Part, Seen]]:
    return [(part, one) for part in run.parts for one in part.seen]


def _often(share: float | None) -> str:
    return "" if not share else f" (as in {share:.0%} of the earlier runs that were done)"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
