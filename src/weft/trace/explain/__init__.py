"""What an engineer would find in a run in an afternoon: `found = await explain(store, run)`.

Organs look at the run, each in its way; a `Finding` says in words what is unusual, which effects show it, and how sure
that is. What is usual comes from the earlier runs of the same workflow (`Past`). Findings about one effect become one,
and those that are sure stand in the order of time: what happened first comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import msgspec

from weft.core.errors import UnknownRun
from weft.store.base import Store
from weft.trace.anomalies import check
from weft.trace.explain import facts, lines, moved, unusual
from weft.trace.explain.finding import KINDS, Finding, Organ, link
from weft.trace.explain.past import EARLIER, Past, past_of
from weft.trace.explain.profile import Profile, profile_of
from weft.trace.journal_history import history_of_runs, with_neighbours

__all__ = ["ORGANS", "Explanation", "Finding", "Organ", "Past", "Profile", "explain", "findings", "link", "past_of"]

ORGANS: tuple[Organ, ...] = (
    facts.refused, facts.paused, facts.failed, unusual.answer, lines.said, unusual.slow, unusual.count, moved.moved,
    unusual.Order(), facts.before,
)  # fmt: skip
USUAL = 0.2
"""A fact that so many usual runs have explains nothing."""
SURE = 0.8
"""From this weight on, findings count as equally sure."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`findings`: the sure ones first, in the order of time; none: nothing is unusual. `compared`: how many earlier
    runs it was compared with that were done; `failed`: and that failed."""

    run: str
    workflow: str
    state: str
    findings: tuple[Finding, ...]
    compared: int
    failed: int
    new_code: bool = False
    """No earlier run had this code."""


async def explain(
    store: Store, run: str, *, past: Past | None = None, organs: Sequence[Organ] = ORGANS, limit: int = EARLIER
) -> Explanation:
    """Look at a run with its children. `past`: what is usual, if it is known already; else the newest `limit` earlier
    runs of its workflow are read. Raises UnknownRun."""
    row = await store.row(run)
    if row is None:
        raise UnknownRun(f"there is no run {run!r} in {store.url}; `weft ps` lists those there are")
    past = await past_of(store, row, limit=limit) if past is None else past
    profile = await profile_of(store, row)
    every = [*organs, *await _memory(store, profile)]
    found = await asyncio.to_thread(findings, profile, past, every)  # seconds of work, if the runs are long
    known = {one.version for one in past.runs}
    return Explanation(
        run=run, workflow=row.workflow, state=row.state, findings=tuple(found), compared=len(past.usual),
        failed=sum(one.failure is not None for one in past.runs), new_code=bool(known) and row.version not in known,
    )  # fmt: skip


async def _memory(store: Store, run: Profile) -> list[Organ]:
    """The organ that looks at shared memory, for a run that used it."""
    if not any(seen.symbol.startswith("memory:") for part in run.parts for seen in part.seen):
        return []
    ids = [part.id for part in run.parts]
    history = await with_neighbours(store, ids, await history_of_runs(store, ids))
    return [partial(facts.stale, check(history, "L4", residue=False))]


def findings(run: Profile, past: Past, organs: Sequence[Organ] = ORGANS) -> list[Finding]:
    """What the organs find, one finding for each effect, in the order of time; after those what is not as sure, and at
    last recurrence, which explains nothing by itself. A cause joins what was found about one of its effects, and that a
    call took long joins its cause."""
    by_effect: dict[str, Finding] = {}
    causes: dict[str, str] = {}
    for one in sorted((one for organ in organs for one in organ(run, past)), key=lambda f: KINDS.index(f.kind)):
        if (one.common or 0.0) > USUAL:
            continue
        key = one.effects[0] if one.kind != "before" else "before"
        if one.kind == "cause":
            key = next((effect for effect in one.effects if effect in by_effect), key)
            causes.update(dict.fromkeys(one.effects, key))
        elif one.kind == "slow":
            key = causes.get(key, key)
        kept = by_effect.get(key)
        by_effect[key] = one if kept is None else _joined(kept, one)
    return sorted(by_effect.values(), key=lambda one: (one.kind == "before", one.weight < SURE, one.at))


def _joined(kept: Finding, other: Finding) -> Finding:
    """Two about one effect: the first, with what the other says, from when either began."""
    return msgspec.structs.replace(kept, more=(*kept.more, other.words), at=min(kept.at, other.at))
