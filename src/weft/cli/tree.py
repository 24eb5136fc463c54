"""`weft ps --tree`: who started whom."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, Any

from weft.cli.look import state_of

if TYPE_CHECKING:
    from rich.tree import Tree

    from weft.store.base import ProcessRow, Store

Pair = tuple["ProcessRow", str]
Family = tuple[Pair, list[Any]]
"""A run with its state, and in the same form its children."""
MOST = 1000
"""Children of one run that are shown."""


async def families(store: Store, roots: Sequence[ProcessRow]) -> list[Family]:
    """Each run with its state and, in the same form, its children, the first first."""
    found = []
    for row in roots:
        children = list(reversed(await store.rows(parent=row.id, limit=MOST)))
        found.append(((row, await state_of(store, row)), await families(store, children)))
    return found


def drawn(found: Sequence[Family]) -> list[Tree]:
    """One tree for each run."""
    from rich.tree import Tree

    def grow(tree: Tree, children: Sequence[Family]) -> Tree:
        for pair, below in children:
            grow(tree.add(_line(*pair)), below)
        return tree

    return [grow(Tree(_line(*pair)), below) for pair, below in found]


def plain(found: Sequence[Family]) -> list[dict[str, Any]]:
    """The same as plain data, with `children`."""
    from weft.cli.render import plain_row

    return [{**plain_row(*pair), "children": plain(below)} for pair, below in found]


def _line(row: ProcessRow, state: str) -> Any:
    from rich.text import Text

    from weft.cli.render import COLOURS, age

    return Text.assemble(
        row.id, "  ", row.workflow, "  ", (state, COLOURS.get(state, "")), "  ", age(time() - row.created)
    )
