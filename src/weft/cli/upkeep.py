"""`weft gc` and `doctor`: keeping a store small and a machine fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.look import ask
from weft.cli.place import default_store
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from weft.store.base import Store


@reported
def gc(
    older_than: Annotated[str, typer.Option("--older-than", help="Age since a run ended: 30d, 12h, 90m, 10s.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Delete runs that ended long ago, with their journals and payloads."""
    from time import time

    from weft.cli.host import say
    from weft.store.base import FINISHED

    before = time() - _seconds(older_than)

    async def sweep(opened: Store) -> tuple[list[str], int]:
        ids = [row.id for row in await opened.rows(states=FINISHED, before=before, limit=1_000_000)]
        return ids, 0 if dry_run else await opened.delete(ids)

    ids, count = ask(store, sweep)
    words = f"{len(ids):,} runs would be deleted" if dry_run else f"{count:,} runs deleted"
    say({"runs": ids, "deleted": count}, words, json)


@reported
def doctor(store: StorePlace = None, json: AsJson = False) -> None:
    """Say what this machine offers, what is missing, and how to get it."""
    from weft.cli.doctor import examine
    from weft.cli.render import out

    findings = examine(store or default_store())
    if json:
        out([{"what": f.what, "ok": f.ok, "found": f.found, "fix": f.fix} for f in findings])
        return
    for finding in findings:
        mark = "ok     " if finding.ok else "missing"
        print(f"{mark}  {finding.what:<16} {finding.found}" + (f"\n         {finding.fix}" if finding.fix else ""))


def _seconds(age: str) -> float:
    from weft.core.errors import BadInput

    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    try:
        return float(age[:-1]) * units[age[-1]]
    except (KeyError, ValueError, IndexError):
        raise BadInput(f"{age!r} is not an age; write a number and d, h, m or s, as in 30d") from None
