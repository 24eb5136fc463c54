"""A run as symbols: what an automaton learns from."""

from __future__ import annotations

from collections.abc import Callable

from weft.store.base import Store
from weft.trace.reading import Kind, Node, read_effects

QUIET: frozenset[Kind] = frozenset({"clock", "random", "timer", "checkpoint", "control"})
"""What says nothing of how a program behaves."""


def symbol_of(node: Node) -> str:
    """Kind, name and status of an effect: `tool:search`, `generation`, `step:fetch:failed`."""
    named = (
        f"{node.kind}:{node.name}"
        if node.name and node.kind in ("step", "tool", "spawn", "ask", "event")
        else node.kind
    )
    return named if node.status == "ok" else f"{named}:{node.status}"


async def symbols_of_run(store: Store, run: str, symbol: Callable[[Node], str] = symbol_of) -> list[str]:
    """The symbols of one process's effects, in the order in which their outcomes reached it."""
    return [symbol(node) async for node in read_effects(store, run) if node.kind not in QUIET]
