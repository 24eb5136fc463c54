"""What moved first: of the metrics of steps, tools and models the one that is not as in usual runs, and that no other
explains.

Whether anything moved, the levels say (`levels`), and how sure that is, is counted as for times: 1 less the share of
usual runs of which some metric is as far out, each judged by the others. Which of the metrics that moved came first,
`weft.trace.causes` ranks, on a graph that it learns from usual runs with the known calls as a prior. Of an agent its
seconds are a symptom only: its callees' are in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, cast

from weft.core.errors import MissingExtra
from weft.core.resources import Usage
from weft.store.base import FINISHED
from weft.trace.explain.finding import Finding
from weft.trace.explain.levels import (
    Call,
    Metric,
    Usual,
    agent_of,
    amount,
    calls_of,
    level_of,
    measure_of,
    scaled,
)
from weft.trace.explain.past import Past
from weft.trace.explain.profile import OUTSIDE, Part, Profile
from weft.trace.explain.unusual import FEW, needed
from weft.trace.reading import Kind, Node, Status

if TYPE_CHECKING:
    from weft.trace.causes import Series

AGENT = "agent "
OUT = 3.0
"""Deviations below which no level counts as moved. It is a mean, so this is far; chosen on simulated runs."""
USED, TAKEN = ("tokens", "cpu"), ("seconds", "money")
"""What a call uses explains what it takes, and not the other way round."""
LEARNT = 50
"""Usual runs, the newest, that the graph of causes is learnt from."""
BINS = 20
"""Of a usual run."""
SHOWN, NAMED = 100, 5
"""Effects that are told to show it, and further metrics that are named."""


def moved(run: Profile, past: Past) -> list[Finding]:
    """The metric that moved first, if one is further out than any is in nearly all usual runs. Needs the extra `trace`
    (NumPy), and says nothing without it."""
    if len(past.usual) < FEW:
        return []
    calls = calls_of(run)
    usual = _usual(calls, past)
    out = {metric: far for metric, one in usual.items() if (far := one.far(level_of(metric, calls[metric]))) >= OUT}
    sure = _sure(usual, past, max((far for metric, far in out.items() if not metric.startswith(AGENT)), default=0.0))
    if sure < needed(len(past.usual)):
        return []
    try:
        first, symptom, path = _first(run, past, out)
        at, shown = _onset(first, calls[first], usual[first])
    except MissingExtra:
        return []
    path = path or _up(run, first, calls[first][at].part, symptom)
    words = f"{_told(first, calls[first], usual[first], out[first])}, {_since(at, calls[first], run)}{_way(path, out)}"
    effects = tuple(run.id(one.part, one.seen) for one in shown[:SHOWN] if one.seen is not None)
    return [Finding(kind="cause", words=words, effects=effects, sure=sure, at=calls[first][at].at)]


def _usual(calls: Mapping[Metric, list[Call]], past: Past) -> dict[Metric, Usual]:
    """Of the metrics of a run those that enough usual runs have."""
    found = {metric: [levels[metric] for levels in past.levels if metric in levels] for metric in calls}
    return {metric: Usual(metric, levels) for metric, levels in found.items() if len(levels) >= FEW}


def _sure(usual: Mapping[Metric, Usual], past: Past, far: float) -> float:
    """How sure it is that something is unusual which is so far out; 0 for what is not far enough."""
    if far < OUT:
        return 0.0
    judged = {metric: one for metric, one in usual.items() if not metric.startswith(AGENT)}
    furthest = [
        max((judged[metric].far(one, among=True) for metric, one in levels.items() if metric in judged), default=0.0)
        for levels in past.levels
    ]
    return 1 - (sum(other >= far for other in furthest) + 1) / (len(furthest) + 1)


# --- which of them --------------------------------------------------------------------------------------------------


def _first(run: Profile, past: Past, out: Mapping[Metric, float]) -> tuple[Metric, Metric, Sequence[Metric]]:
    """Of the metrics that moved the one that others explain least; the symptom: the outermost agent that took longer,
    or what is furthest out; and the way from one to the other, if the graph has one."""
    from weft.trace.causes import rank

    agents = [f"{agent_of(part)}/seconds" for part in run.parts]
    symptom = next((metric for metric in agents if metric in out), max(out, key=lambda metric: out[metric]))
    every = max(median(_span(old) for old in past.usual) / BINS, _span(run) / (BINS * 50), 1e-3)
    normal, bad = _joined([_series(old, every) for old in past.usual[:LEARNT]]), _series(run, every)
    known = symptom in normal.names and symptom in bad.names
    found = rank(normal, bad, symptom=symptom if known else None).causes
    own = [metric for metric in out if not metric.startswith(AGENT)]
    paths = {one.name: one.path for one in found if one.name in own}
    first = next(iter(paths), max(own, key=lambda metric: out[metric]))
    if measure_of(first) in TAKEN:
        first = next((used for measure in USED if (used := _beside(first, measure)) in own), first)
    path = paths.get(first, ())
    return first, symptom, path if path[-1:] == (symptom,) else ()


def _up(run: Profile, first: Metric, above: Part | None, symptom: Metric) -> list[Metric]:
    """The way from a metric of a process's effects to the symptom over those who called it."""
    callers = _callers(run)
    path = [first]
    while path[-1] != symptom and above is not None:
        path.append(f"{agent_of(above)}/seconds")
        above = callers.get(above.id)
    return path if path[-1] == symptom else [first, symptom]


def _callers(run: Profile) -> dict[str, Part]:
    """Who started each process."""
    return {seen.child: part for part in run.parts for seen in part.seen if seen.child}


def _beside(metric: Metric, measure: str) -> Metric:
    """Another metric of the same entity."""
    return f"{metric.rpartition('/')[0]}/{measure}"


def _span(run: Profile) -> float:
    return max(part.ended for part in run.parts) - min(part.began for part in run.parts)


def _joined(series: Sequence[Series]) -> Series:
    """One after the other."""
    from weft.trace.causes.series import make_series, numpy

    np = numpy()
    names = list(dict.fromkeys(name for one in series for name in one.names))
    blocks = []
    for one in series:
        block = np.full((len(one.values), len(names)), np.nan)
        block[:, [names.index(name) for name in one.names]] = one.values
        blocks.append(block)
    calls = frozenset().union(*(one.calls or () for one in series))
    return make_series(names, np.concatenate(blocks), calls=calls)


def _series(run: Profile, every: float) -> Series:
    """The metrics of a run over time."""
    from weft.trace.causes.journal import series_of_nodes

    callers = _callers(run)
    nodes = [node for part in run.parts for node in _nodes(part, callers.get(part.id))]
    return series_of_nodes(nodes, {part.id: agent_of(part) for part in run.parts}, every)


def _nodes(part: Part, caller: Part | None) -> Iterator[Node]:
    """A process and its effects as the reader of journals has them."""
    name = part.workflow.rpartition(".")[2]
    ended = part.ended if part.state in FINISHED else None
    parent = None if caller is None else caller.id
    yield Node(run=part.id, parent=parent, name=name, started=part.began, issued=part.began, ended=ended)
    for seen in part.seen:
        if seen.status not in ("ok", "failed") or seen.symbol.startswith(OUTSIDE):
            continue
        kind, _, name = seen.symbol.partition(":")
        usage = Usage(cpu_seconds=seen.cpu, memory_peak=seen.memory) if seen.cpu or seen.memory else None
        yield Node(
            run=part.id, effect=seen.effect, parent=part.id, kind=cast("Kind", kind), name=name or kind,
            issued=seen.at - seen.waited, started=seen.at, ended=seen.at + seen.seconds,
            status=cast("Status", seen.status), spent={"tokens": seen.tokens, "money": seen.money},
            model=seen.model or "unknown", usage=usage,
        )  # fmt: skip


# --- words ----------------------------------------------------------------------------------------------------------


def _onset(metric: Metric, calls: Sequence[Call], usual: Usual) -> tuple[int, list[Call]]:
    """The call from which on the metric had moved, and the calls since then that show it."""
    from weft.trace.causes.series import numpy
    from weft.trace.causes.shift import onset

    np = numpy()
    measure = measure_of(metric)
    values = np.array([scaled(measure, one.value) for one in calls])
    start = scaled(measure, amount(measure, usual.mean))
    by = float(values.mean()) - start
    at = onset(values, start, by)
    return at, [one for one, value in zip(calls[at:], values[at:], strict=True) if (value - start) / by > 0.5]


def _told(metric: Metric, calls: Sequence[Call], usual: Usual, far: float) -> str:
    """How far it is out."""
    measure = measure_of(metric)
    own, before = amount(measure, level_of(metric, calls).mean), amount(measure, usual.mean)
    return f"{metric} went from {_in_units(measure, before)} to {_in_units(measure, own)} a call ({far:.1f} deviations)"


def _since(at: int, calls: Sequence[Call], run: Profile) -> str:
    after = calls[at].at - run.parts[0].began
    return f"from call {at + 1} of {len(calls)} on, {after:.3g} s after the start"


def _way(path: Sequence[Metric], out: Mapping[Metric, float]) -> str:
    """How it reached the symptom, and what else moved."""
    more = [metric for metric in out if metric not in path]
    over = f" over {' → '.join(path[1:-1])}" if len(path) > 2 else ""
    reaches = f"; it reaches {path[-1]}{over}" if len(path) > 1 and path[-1] != path[0] else ""
    return reaches + (f"; {', '.join(more[:NAMED])} moved, too" if more else "")


def _in_units(measure: str, value: float) -> str:
    match measure:
        case "errors":
            return f"{value:.0%}"
        case "tokens":
            return f"{value:,.0f}"
        case "money":
            return f"${value:.2g}"
        case "memory":
            return f"{value / 1e6:,.0f} MB"
    return f"{value:.3g} s"
