"""Shared memory: namespaces, their cells, and what was in each cell when. What carries a label is not shown."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from weft.core.errors import NoObject
from weft.core.record import Blob
from weft.core.sealed import label_of
from weft.store.base import Store, bytes_of
from weft.store.memory import Object
from weft.web.page.answer import mark, marked, needed, whole
from weft.web.page.body import LARGEST, body
from weft.web.page.book import Book

VERSIONS = 10_000


async def namespaces(store: Store, request: Request) -> dict[str, Any]:
    """`/api/memory`."""
    found = await store.spaces()
    return {"items": [{"namespace": one.namespace, "clock": one.at, "cells": one.cells} for one in found]}


async def cells(store: Store, request: Request) -> dict[str, Any]:
    """`/api/memory/cells`."""
    namespace, limit = needed(request, "namespace"), whole(request, "limit", 200, 1, 1000)
    found = (await store.under(namespace, after=marked(request, str) or "", limit=limit + 1)).objects
    if not found and not (await store.look(namespace, [])).at:
        raise NoObject(f"there is no memory {namespace[:80]!r}")
    next = mark(found[limit - 1].cell.partition("/")[2]) if len(found) > limit else None
    return {"items": [_told(one) for one in found[:limit]], "next": next}


async def history(store: Store, request: Request) -> dict[str, Any]:
    """`/api/memory/history`."""
    limit, before = whole(request, "limit", 200, 1, 1000), marked(request, int)
    found = await store.versions(needed(request, "cell"), VERSIONS)
    if not found:
        raise NoObject(f"nothing was ever written to {needed(request, 'cell')[:80]!r}")
    left = [one for one in found if before is None or one.version < before]
    next = mark(left[limit - 1].version) if len(left) > limit else None
    return {"items": [_told(one) for one in left[:limit]], "next": next}


async def value(store: Store, request: Request) -> dict[str, Any]:
    """`/api/memory/value`."""
    cell, version = needed(request, "cell"), whole(request, "version", 0, 0, 1 << 53)
    found = await store.versions(cell, VERSIONS if version else 1)
    one = next((each for each in found if version in (0, each.version)), None)
    if one is None:
        raise NoObject(f"there is no version {version or 'at all'} of {cell[:80]!r}")
    if one.value is None or (isinstance(one.value, Blob) and one.value.size > LARGEST):
        return {**_told(one), "label": None, "body": await body(store, one.value, "")}
    data = await bytes_of(store, one.value)
    label = label_of(data)
    told = None if label is not None else await body(store, data, "")
    return {**_told(one), "label": None if label is None else str(label), "body": told}


def of_run(book: Book) -> dict[str, Any]:
    """`/api/runs/RUN/memory`: the cells that a run and all below it read and wrote."""
    found: dict[str, dict[str, Any]] = {}
    for leaf in book.leaves.values():
        for node in leaf.effects:
            if node.exact not in ("memory.read", "memory.commit", "memory.written"):
                continue
            space, slash, rest = node.name.partition("/")
            cell = f"{space}{leaf.row.id}{slash}{rest}" if space.endswith("@") else node.name
            one = found.setdefault(cell, {"cell": cell, "reads": 0, "writes": 0, "last": 0.0})
            one["reads" if node.exact == "memory.read" else "writes"] += 1
            one["last"] = max(one["last"], node.ended or node.started)
    return {"cells": sorted(found.values(), key=lambda one: -float(one["last"]))}


def _told(one: Object) -> dict[str, Any]:
    size = None if one.value is None else one.value.size if isinstance(one.value, Blob) else len(one.value)
    return {
        "cell": one.cell, "version": one.version, "clock": one.at, "bytes": size, "deleted": one.value is None,
        "links": one.links, "updated": one.updated, "by": one.by or None, "operation": one.operation or None,
    }  # fmt: skip
