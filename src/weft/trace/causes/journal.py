"""The metrics of a run, from its journal: of each agent, step, tool and model, over time.

    series = await series_of_run(store, run)
    series.names            # ("tool search/seconds", "tool search/errors", "model qwen/tokens", "agent solve/open", …)

Time is cut into equal bins. An effect counts where it ended: `calls` of a bin, `seconds` and `waited` on average,
`errors` as a part of them, `tokens`, `money`, `cpu` and `memory` (the most) where they are told. `open` is how many
were under way at once. A mean of a bin without calls is that of the bin before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.trace.causes.series import Series, make_series, numpy
from weft.trace.reading import Node, read_run

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.causes.series import Array

BINS = 100
"""Of a run, unless it is said how long a bin is."""
MOST = 100_000
KINDS = frozenset({"step", "tool", "generation", "process", "ask", "memory"})
_SUMS = ("calls", "tokens", "money")


async def series_of_run(store: Store, run: str, every: float | None = None) -> Series:
    """The metrics of a run and its children in bins of `every` seconds (by default a hundredth of the run); times are
    seconds from its start. Raises UnknownRun; BadInput for a run that has not ended anything yet."""
    nodes, callers = [], {}
    async for node in read_run(store, run):
        if node.kind in KINDS and node.ended is not None:
            nodes.append(node)
        if node.kind == "process":
            callers[node.run] = f"agent {node.name}"
    return series_of_nodes(nodes, callers, every)


def series_of_nodes(nodes: list[Node], callers: dict[str, str], every: float | None = None) -> Series:
    """As `series_of_run`, of nodes that were read. `callers`: what to call each process."""
    np = numpy()
    ended = [node for node in nodes if node.ended is not None]
    if not ended:
        raise BadInput("nothing in this run has ended yet, so there is nothing to measure")
    start = min(node.started for node in ended)
    span = max(max(node.ended or 0.0 for node in ended) - start, 1e-3)
    if every is not None and not 0 < every < float("inf"):
        raise BadInput(f"a bin is a positive number of seconds, not {every}")
    every = every or span / BINS
    count = int(span / every) + 1
    if count > MOST:
        raise BadInput(f"{span:.0f} s in bins of {every:g} s are {count:,} bins; at most {MOST:,} are looked at")
    of: dict[str, list[Node]] = {}
    for node in ended:
        of.setdefault(_of(node), []).append(node)
    columns: dict[str, Array] = {}
    for name, its in of.items():
        for metric, column in _columns(its, start, every, count).items():
            columns[f"{name}/{metric}"] = column
    table = np.stack(list(columns.values()), axis=1)
    return make_series(list(columns), table, np.arange(count) * every, _calls(ended, callers))


def _of(node: Node) -> str:
    if node.kind == "process":
        return f"agent {node.name}"
    if node.kind == "generation":
        return f"model {node.model or node.name}"
    return f"{node.kind} {node.name}"


def _columns(its: list[Node], start: float, every: float, count: int) -> dict[str, Array]:
    """The metrics of one entity; a mean of an empty bin is NaN, to be filled."""
    np = numpy()
    row = np.array([min(int(((node.ended or 0.0) - start) / every), count - 1) for node in its])
    calls = np.bincount(row, minlength=count).astype(float)
    told: dict[str, list[float]] = {
        "seconds": [node.seconds for node in its],
        "waited": [node.waited for node in its],
        "errors": [float(node.status == "failed") for node in its],
        "tokens": [node.tokens for node in its],
        "money": [node.money for node in its],
        "cpu": [node.usage.cpu_seconds if node.usage else 0.0 for node in its],
        "memory": [float(node.usage.memory_peak) if node.usage else 0.0 for node in its],
    }
    found: dict[str, Array] = {"calls": calls, "open": _open(its, start, every, count)}
    for metric, numbers in told.items():
        if metric != "errors" and not any(numbers):
            continue
        if metric == "memory":
            most = np.full(count, np.nan)
            np.fmax.at(most, row, np.array(numbers))
            found[metric] = most
            continue
        summed = np.bincount(row, weights=numbers, minlength=count)
        found[metric] = summed if metric in _SUMS else np.where(calls > 0, summed / np.maximum(calls, 1), np.nan)
    return found


def _open(its: list[Node], start: float, every: float, count: int) -> Array:
    """How many were under way in each bin, on average over its time."""
    np = numpy()
    edges = np.arange(count + 1) * every
    began = np.array([node.started for node in its]) - start
    ended = np.array([node.ended or 0.0 for node in its]) - start

    # the time that was spent in calls up to each edge, in all
    spent = sum(np.clip(edges - one, 0.0, max(other - one, 0.0)) for one, other in zip(began, ended, strict=True))
    taken: Array = np.diff(spent) / every
    return taken


def _calls(nodes: list[Node], callers: dict[str, str]) -> frozenset[tuple[str, str]]:
    """Who called whom: a process its effects, and the process of a child that child."""
    pairs = {(callers[node.run], _of(node)) for node in nodes if node.kind != "process" and node.run in callers}
    for node in nodes:
        above = (node.parent or "").partition(":")[0]
        if node.kind == "process" and above in callers:
            pairs.add((callers[above], _of(node)))
    return frozenset(pairs)
