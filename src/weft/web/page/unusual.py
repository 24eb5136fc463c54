"""What is unusual in a run, as `weft explain` says it."""

from __future__ import annotations

from typing import Any

import msgspec

from weft.store.base import Store
from weft.trace.explain import explain

EARLIER = 100
"""Runs that it is compared with, the newest: somebody waits for the answer."""


async def of_run(store: Store, id: str) -> dict[str, Any]:
    """`/api/runs/RUN/unusual`."""
    found = await explain(store, id, limit=EARLIER)
    told = [msgspec.structs.asdict(one) | {"sureness": one.sureness} for one in found.findings]
    return {"compared": found.compared, "failed": found.failed, "new_code": found.new_code, "findings": told}
