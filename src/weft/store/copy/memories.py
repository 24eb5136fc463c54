"""Bringing shared memory along: piece after piece of its past, so that at any moment there is a whole one there.

What is there already is compared, not written. If the memory there has gone another way, since runs at both ends wrote
to it, nothing is written, and unfinished runs that took part in it stay here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from weft.core.errors import StoreCorrupt
from weft.core.record import content_hash
from weft.store.copy.journey import DIGESTS, Journey, Left, Report, Route, Unfit, Why
from weft.store.memory import Object, Past, blobs, private_to
from weft.store.past import filled, pieces

_pack = msgspec.msgpack.encode


class _Unlike(Exception):
    """It can't go; the first argument is why."""


class Memories:
    def __init__(self, route: Route, report: Report) -> None:
        self.route = route
        self.source = route.source
        self.target = route.target
        self.report = report
        self._met: dict[str, int] = {}
        """Of shared namespaces: up to which time both ends are known to be the same."""
        self._left: dict[str, set[str]] = {}
        """Namespaces that can't go -> processes that took part in them."""

    async def bring(self, journeys: Sequence[Journey] = ()) -> None:
        """All that is shared, and what is private to processes of these families; those that can't go without their
        memory are left."""
        home = {id: one for one in journeys if one.left is None for id in one.sizes}
        clocks = await self.source.clocks(list(home))
        there = await self.target.clocks(list(home))
        for namespace, at in clocks.items():
            if namespace not in self._left and self._met.get(namespace, 0) < at:
                await self._bring(namespace, at, there.get(namespace, 0))
        for namespace, processes in self._left.items():
            for id in processes & home.keys():
                if home[id].unfinished:
                    home[id].leave("conflict", f"run {home[id].run} stays with its memory {namespace!r}, which is left")

    async def _bring(self, namespace: str, at: int, there: int) -> None:
        met, private = self._met.get(namespace, 0), private_to(namespace)
        try:
            async for past in pieces(self.source, namespace, met, min(at, there)):
                await self._compare(past, fresh=False)
            async for past in pieces(self.source, namespace, max(met, min(at, there)), at):
                await self._write(past)
        except _Unlike as error:
            await self._leave(namespace, at, *error.args)
            return
        if private is None:
            self._met[namespace] = at
        self.report.memories.add(namespace)

    async def _write(self, past: Past) -> None:
        try:
            async for batch in filled(self.source, past):
                if any(content_hash(data) != hash for hash, data in batch.payloads.items()):
                    raise StoreCorrupt(f"a large value in memory {past.namespace!r} is damaged in {self.source.url}")
                await self.route.put(batch)
        except StoreCorrupt as error:
            raise _Unlike("damaged", str(error)) from error
        except Unfit as error:
            raise _Unlike("conflict", f"{self.target.url} can't hold the memory {past.namespace!r}: {error}") from error
        await self._compare(past, fresh=True)

    async def _compare(self, past: Past, *, fresh: bool) -> None:
        """Add both ends to the digests. What was pruned at one end is nothing that differs."""
        space, place = past.namespace, self.target.url
        other = await self.target.past(space, past.after, past.at)
        if (other.operations, other.dependencies) != (past.operations, past.dependencies):
            text = f"the memory {space!r} was written here and in {place} since they were the same; what is there stays"
            raise _Unlike("conflict", f"{text}, and what is here")
        ours, theirs = _by_version(past), _by_version(other)
        both = ours.keys() & theirs.keys()
        if any(ours[key] != theirs[key] for key in both) or (fresh and ours.keys() != theirs.keys()):
            if not fresh:
                raise _Unlike("conflict", f"the memory {space!r} has other values in {place}; what is there stays")
            raise StoreCorrupt(
                f"the memory {space!r} reads back from {place} otherwise than it was written; check the disk there"
            )
        if fresh:
            await self._look_at_payloads(other)
        self.report.here = (self.report.here + _digest(past, [ours[key] for key in sorted(both)])) % DIGESTS
        self.report.beyond = (self.report.beyond + _digest(other, [theirs[key] for key in sorted(both)])) % DIGESTS

    async def _look_at_payloads(self, there: Past) -> None:
        for _, hash in blobs(there.objects):
            if content_hash(await self.target.payload(hash)) != hash:
                raise StoreCorrupt(f"a large value of memory {there.namespace!r} is damaged in {self.target.url}")

    async def _leave(self, namespace: str, at: int, why: Why, text: str) -> None:
        processes: set[str] = set()
        async for past in pieces(self.source, namespace, 0, at):
            processes.update(one.process for one in past.operations)
        self._left[namespace] = processes
        self.report.left.append(Left(f"memory:{namespace}", why, text))


def _by_version(past: Past) -> dict[tuple[str, int], Object]:
    return {(one.cell, one.version): one for one in past.objects}


def _digest(past: Past, objects: Iterable[Object]) -> int:
    """A sum over all that happened: in whatever pieces it is read, it is the same."""
    happened: list[Any] = [(past.namespace, one) for one in objects]
    happened += [(past.namespace, pair) for pair in past.dependencies]
    for one in past.operations:
        if one.at > past.after:
            happened.append((one.namespace, one.id, one.process, one.level, one.at))
        changes = (("tainted", one.tainted_at), ("retracted", one.retracted_at))
        happened += [(one.namespace, one.id, what, at) for what, at in changes if at > past.after]
    return sum(int.from_bytes(hashlib.blake2b(_pack(one), digest_size=16).digest()) for one in happened)
