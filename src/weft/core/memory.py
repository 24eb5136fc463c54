"""Words of shared memory: cells, levels, and what an operation promises.

A *cell* is a name in a namespace (`team/plan`); it has versions. An *operation* reads cells, computes (a model may
think for minutes meanwhile), and writes cells, all at once, in its *commit*. A *level* says which anomalies a commit
excludes: arXiv 2606.17182 names them and orders them in a chain, each level excluding what those below it exclude.

| level | excludes besides                                                                   |
| ----- | ---------------------------------------------------------------------------------- |
| L0    | nothing: the last write wins                                                        |
| L1    | stale generation: what was read was overwritten by another before the commit        |
| L2    | causal cascade: what a retracted operation wrote is built upon                      |
| L3    | tool-effect reordering: effects take place in another order than they were issued   |
| L4    | phantom tool: a tool that was planned with is gone, or another, when it is called   |
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

from weft.core.errors import BadInput

Level = Literal["L0", "L1", "L2", "L3", "L4"]
LEVELS: tuple[Level, ...] = get_args(Level)

Order = Literal["ordered", "staged", "commutes", "none"]
"""What a step says of its effects, for operations at L3: they must take place in the order of the calls, the whole
step being one (`ordered`) or all from `await weft.turn()` on (`staged`); in any order (`commutes`); there are none."""
ORDERS: tuple[Order, ...] = get_args(Order)

TOOLS = "tools/"
"""How the names of the cells begin that a namespace keeps its tools in."""


def operation_id(process: str, number: int) -> str:
    """What an operation is known by that a process began with its effect `number`. The id of the process is not in it,
    so that a fork, in which ids are replaced, still names what its origin committed."""
    return "op" + hashlib.blake2b(f"{process}:{number}".encode(), digest_size=10).hexdigest()


def level_of(given: str, what: str) -> Level:
    """`given`, if it is a level. Raises BadInput (`what`: who was told so)."""
    for level in LEVELS:
        if given == level:
            return level
    raise BadInput(f"{what}: level={given!r} must be one of {', '.join(LEVELS)}")


def check_namespace(name: object) -> str:
    """Raises BadInput unless it can be the name of a namespace."""
    if not isinstance(name, str) or not name or any(c in name for c in "/@*\0") or name != name.strip():
        raise BadInput(f"Memory({name!r}): a namespace is a non-empty text without '/', '@' and '*'")
    return name


def check_name(name: object, what: str) -> str:
    """Raises BadInput unless it can be the name of a cell in its namespace."""
    if not isinstance(name, str) or not name or "\0" in name or "*" in name or name.startswith("/"):
        raise BadInput(f"{what}({name!r}): a name in memory is a non-empty text without '*', not beginning with '/'")
    return name
