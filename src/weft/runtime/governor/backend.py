"""Which back-end this machine allows, and what it can't do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from weft.core.errors import BadInput
from weft.runtime.governor import polling
from weft.runtime.governor.place import NEEDED, Places, places

Kind = Literal["cgroup2", "cgroup1", "polling"]
KINDS: tuple[Kind, ...] = ("cgroup2", "cgroup1", "polling")
CHOSEN = "WEFT_GROUPS"
"""Variable of the environment that names the back-end to use."""
_MEASURED = {
    "memory": "memory is measured some twenty times a second, so that a short peak is missed",
    "pids": "processes are counted some twenty times a second, and never refused",
    "cpu": "cpu is not limited",
}


@dataclass(frozen=True)
class Backend:
    """`weaker`: what it does less well than the best there is, in words."""

    name: Kind
    weaker: tuple[str, ...] = ()


def offered(where: Places) -> list[Kind]:
    """Those that can be used here, the best first."""
    found: list[Kind] = []
    if where.v2 is not None and "memory" in where.controllers:
        found.append("cgroup2")
    if "memory" in where.v1 and "freezer" in where.v1:
        found.append("cgroup1")
    if where.v2 is not None and "cgroup2" not in found:
        found.append("cgroup2")
    return [*found, "polling"]


def choose(kind: str | None = None) -> Kind:
    """The back-end asked for (or by WEFT_GROUPS), else the best. Raises BadInput for one that can't be used here."""
    kind = kind or os.environ.get(CHOSEN) or None
    there = offered(places())
    if kind is None:
        return there[0]
    if kind not in there:
        raise BadInput(f"groups by {kind!r}: this machine offers {', '.join(there)}")
    return kind


def backend(kind: str | None = None) -> Backend:
    """The back-end that groups use here."""
    name = choose(kind)
    where = places()
    if name == "polling":
        return Backend(name, polling.WEAKER)
    has = set(where.v1) if name == "cgroup1" else where.controllers
    weaker = [_MEASURED[controller] for controller in NEEDED if controller not in has]
    if name == "cgroup1":
        weaker.append("how long it waited for memory is not known")
        weaker.append("what is written through the file cache is measured some twenty times a second")
    return Backend(name, tuple(weaker))
