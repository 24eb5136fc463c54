"""One process of a run as rows: the process, and its effects in order of their numbers."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from weft.store.base import FINISHED, ProcessRow
from weft.trace.reading import Node, process_node
from weft.web.page.sums import Sums

WAITS = frozenset({"sleep", "ask", "receive", "event", "child", "timer"})
NOTE = 120
"""Characters of a note."""


class Leaf:
    """One process. `numbers` are those of `effects`, which lie beside them."""

    def __init__(self, row: ProcessRow, parent: str | None, started_by: int) -> None:
        self.row = row
        self.state = row.state
        self.parent = parent
        self.started_by = started_by
        self.read = 0
        """Records of its journal that were read."""
        self.numbers: list[int] = []
        self.effects: list[Node] = []
        self.flying: set[int] = set()
        self.retrying: set[int] = set()
        self.asides: dict[int, list[int]] = {}
        """By effect: numbers of the records that tell more of it (attempts, decisions, approvals, its begin)."""
        self.children: list[tuple[int, Leaf]] = []
        self.rights: list[str] = []
        """Those that it holds, as far as somebody has asked for them."""
        self.sums = Sums()
        self.size = 1
        self.last = 0.0
        """When the last of its records was written."""

    @property
    def over(self) -> bool:
        return self.row.state in FINISHED

    @property
    def end(self) -> float | None:
        return self.row.updated if self.over else None

    def put(self, node: Node) -> None:
        """A new effect, or what is known of one by now."""
        if not self.numbers or node.effect > self.numbers[-1]:
            self.numbers.append(node.effect)
            self.effects.append(node)
            return
        at = bisect_left(self.numbers, node.effect)
        if at < len(self.numbers) and self.numbers[at] == node.effect:
            self.effects[at] = node
        else:
            self.numbers.insert(at, node.effect)
            self.effects.insert(at, node)

    def effect(self, number: int) -> Node | None:
        at = bisect_left(self.numbers, number)
        return self.effects[at] if at < len(self.numbers) and self.numbers[at] == number else None

    def below(self, number: int) -> int:
        """Rows below an effect."""
        at = bisect_left(self.children, number, key=start_of)
        count = 0
        while at < len(self.children) and self.children[at][0] == number:
            count += self.children[at][1].size
            at += 1
        return count


def span(leaf: Leaf, node: Node | None) -> dict[str, Any]:
    """A process or an effect, as clients have it."""
    row = leaf.row
    if node is None:
        node = process_node(row, f"{leaf.parent}:{leaf.started_by}" if leaf.parent else None)
        status, end = {"done": "ok"}.get(leaf.state, leaf.state), leaf.end
    else:
        status, end = status_of(leaf, node), node.ended if node.effect not in leaf.flying else leaf.end
    generation = node.kind == "generation"
    return {
        "id": node.id, "parent": node.parent, "process": row.id, "effect": node.effect or None,
        "kind": node.exact if node.kind in ("memory", "control", "clock", "random") else node.kind,
        "name": node.name or node.exact, "place": node.place, "start": node.started, "end": end, "status": status,
        "attempts": node.attempts, "tokens_in": node.input_tokens if generation else None,
        "tokens_out": node.output_tokens if generation else None, "money": node.money or None,
        "note": (node.error or node.model)[:NOTE] or None,
    }  # fmt: skip


def status_of(leaf: Leaf, node: Node) -> str:
    """How an effect is."""
    if node.effect not in leaf.flying:
        return "denied" if node.status == "failed" and node.error.startswith("Denied:") else node.status
    if leaf.over:
        return "cancelled"
    if node.effect in leaf.retrying:
        return "retrying"
    return "waiting" if node.kind in WAITS else "running"


def start_of(pair: tuple[int, Leaf]) -> int:
    """Of a child: the effect that started it."""
    return pair[0]
