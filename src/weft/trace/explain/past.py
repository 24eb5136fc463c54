"""What is usual: earlier runs of the same workflow, read from the store, with a cache beside it.

The cache holds nothing that is not in the journals: without it the same is said, more slowly. It lies in
`JOURNAL.usual/` beside a file, and below `$XDG_CACHE_HOME/weft/usual` (or `~/.cache`) for a store on a server.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec

from weft.store.base import DONE, FINISHED, ProcessRow, Store
from weft.trace.causal.recurrence import Embed, Failures
from weft.trace.explain.levels import Level, Metric, calls_of, level_of
from weft.trace.explain.profile import Part, Profile, profile_of

EARLIER = 1000
"""Runs that are looked at, the newest."""
FORMAT = 2
"""Of the cache; another one is not read."""


class Past:
    """Earlier runs of one workflow. Those that are done say what is usual; those that failed, what was seen before.
    `embed`: as of `weft.trace.causal.Failures`."""

    def __init__(self, runs: Iterable[Profile], embed: Embed | None = None) -> None:
        self.runs = [*runs]
        self.embed = embed
        self.usual = [run for run in self.runs if run.state == DONE]

    @cached_property
    def parts(self) -> dict[str, list[Part]]:
        """The processes of usual runs, by workflow."""
        found: dict[str, list[Part]] = {}
        for run in self.usual:
            for part in run.parts:
                found.setdefault(part.workflow, []).append(part)
        return found

    @cached_property
    def levels(self) -> list[dict[Metric, Level]]:
        """The levels of the metrics of each usual run."""
        return [{metric: level_of(metric, calls) for metric, calls in calls_of(run).items()} for run in self.usual]

    @cached_property
    def failures(self) -> Failures:
        return Failures([run.failure for run in self.runs if run.failure is not None], self.embed)

    def share(self, facts: Iterable[Iterable[str]], fact: str) -> float | None:
        """The share of usual runs that have a fact, of the facts of each; None if there is no run."""
        counted = [fact in set(one) for one in facts]
        return sum(counted) / len(counted) if counted else None


async def past_of(store: Store, row: ProcessRow, *, limit: int = EARLIER, embed: Embed | None = None) -> Past:
    """The runs of a run's workflow that began before it and are over, the newest so many."""
    found = await store.listed(
        workflow=row.workflow, states=FINISHED, until=row.created, roots=row.parent is None, limit=limit
    )
    rows = [one for _, one in found if one.id != row.id]
    file = cache_file(store.url, row.workflow)
    kept = read_cache(file)
    runs, new = [], False
    for one in rows:
        profile = kept.get(one.id)
        if profile is None or (profile.length, profile.state) != (one.length, one.state):
            profile, new = await profile_of(store, one), True
        runs.append(profile)
    if new:
        write_cache(file, runs)
    return Past(runs, embed)


def cache_file(url: str, workflow: str) -> Path:
    """Where what is known of a workflow's runs in a store is kept."""
    name = hashlib.blake2b(workflow.encode(), digest_size=8).hexdigest()
    if url.startswith("sqlite:///"):
        return Path(f"{url.removeprefix('sqlite:///')}.usual") / name
    place = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return base / "weft" / "usual" / place / name


class _Kept(msgspec.Struct, array_like=True):
    format: int
    runs: list[Profile] = []


def read_cache(file: Path) -> dict[str, Profile]:
    """What is kept; nothing if there is none that can be read."""
    try:
        kept = msgspec.msgpack.decode(file.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return {}
    return {run.run: run for run in kept.runs} if kept.format == FORMAT else {}


def write_cache(file: Path, runs: list[Profile]) -> None:
    """Keep them; where that can't be done, the next look takes as long as this one."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it has words of outcomes
        draft.write_bytes(msgspec.msgpack.encode(_Kept(FORMAT, runs)))
        draft.replace(file)
