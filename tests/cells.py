"""Words in which tests speak to the shared memory of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.core.memory import Level
from weft.core.record import hashed
from weft.store import Store
from weft.store.memory import Commit, Seen, Verdict, Written


def commit_of(
    operation: str,
    reads: Mapping[str, Seen] | None = None,
    writes: Mapping[str, Any] | None = None,
    level: Level = "L1",
    namespace: str = "notes",
) -> Commit:
    """An operation `<process>:<number>` that saw `reads` and writes `writes`: bytes, None to delete, or `Written`.
    Names are those in the namespace."""
    process = operation.partition(":")[0]
    commit = Commit(operation=operation, namespace=namespace, process=process, level=level, now=1.5)
    commit.reads = {f"{namespace}/{name}": seen for name, seen in (reads or {}).items()}
    for name, value in (writes or {}).items():
        written = value if isinstance(value, Written) else Written(value)
        if isinstance(written.value, bytes):
            data, kept = written.value, hashed(written.value)
            if kept is not data:
                commit.payloads[kept.hash] = data  # type: ignore[union-attr]
            written = Written(kept, written.links, written.expect)
        commit.writes[f"{namespace}/{name}"] = written
    return commit


async def seen(store: Store, *names: str, namespace: str = "notes") -> dict[str, Seen]:
    """What a read of these cells sees now."""
    found = await store.look(namespace, [f"{namespace}/{name}" for name in names])
    return {name: Seen(one.version, one.operation) for name, one in zip(names, found.objects, strict=True)}


async def operate(store: Store, *args: Any, **options: Any) -> Verdict:
    """The verdict on one `commit_of(...)`."""
    [verdict] = await store.operate([commit_of(*args, **options)])
    return verdict


async def now(store: Store, *names: str, namespace: str = "notes") -> dict[str, Any]:
    """The newest values of these cells."""
    found = await store.look(namespace, [f"{namespace}/{name}" for name in names])
    return {name: one.value for name, one in zip(names, found.objects, strict=True)}


async def states(store: Store, *operations: str) -> dict[str, str]:
    return {one.id: one.state for one in await store.operations(operations)}
