"""Graphs against an independent count, templates against runs of random programs, differences against mutations.

- *metrics*: hand-made and random graphs; each number is compared with networkx, or with counting all paths;
- *template*: random programs run for real; every effect and edge of each run must be in the program's template. That
  the check can fail is shown by taking away, for each run, a way that it took;
- *difference*: runs are compared with themselves, and with forks in which the outcome of one effect was changed and the
  program went on from there by itself: the first change must be that one.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import networkx

import weft
from benchmarks.observe import programs
from benchmarks.report import Measure, Report
from weft.trace.diff import diff
from weft.trace.graph.measure import measure as measured
from weft.trace.graph.realised import graph_of
from weft.trace.graph.shape import CONTROL, Edge, Graph, Vertex, contracted
from weft.trace.graph.template.cover import cover
from weft.trace.graph.template.extract import template_of
from weft.trace.graph.template.template import Template
from weft.trace.reading import Node, read_run


def measure(report: Report, *, quick: bool) -> None:
    _metrics(report, 300 if quick else 3000)
    with tempfile.TemporaryDirectory(prefix="weft-observe-") as folder:
        asyncio.run(_runs(report, Path(folder), 60 if quick else 300, 150 if quick else 1000))


# --- metrics ----------------------------------------------------------------------------------------------------------


def _metrics(report: Report, count: int) -> None:
    equal = total = 0
    wrong: list[str] = []
    for name, graph in itertools.chain(_by_hand(), _by_chance(count)):
        for figure, ours, theirs in _compared(graph):
            total += 1
            if abs(ours - theirs) <= 1e-9 * max(1.0, abs(theirs)):
                equal += 1
            else:
                wrong.append(f"{name} {figure}: {ours} and {theirs}")
    report.add("metrics", Measure(name="equal to the independent count", unit="numbers", runs=[float(equal)]))
    why = "; ".join(wrong[:3]) or f"{total:,} numbers of {count + 7:,} graphs"
    report.bar("metrics", "numbers of graphs that are equal", equal / total, least=1.0, why=why)


def _by_hand() -> Iterator[tuple[str, Graph]]:
    yield "nothing", _graph([], [])
    yield "one", _graph([1.0], [])
    yield "a line", _graph([1.0, 2.0, 3.0], [(0, 1), (1, 2)])
    yield "a diamond", _graph([1.0, 5.0, 2.0, 1.0], [(0, 1), (0, 2), (1, 3), (2, 3)])
    yield "two parts", _graph([4.0, 1.0, 1.0], [(1, 2)])
    yield "a fan", _graph([1.0] * 9, [(0, n) for n in range(1, 9)])
    yield "a short cut", _graph([1.0, 1.0, 1.0], [(0, 1), (1, 2), (0, 2)])


def _by_chance(count: int) -> Iterator[tuple[str, Graph]]:
    for seed in range(count):
        chance = random.Random(seed)
        size = chance.randint(1, 12)
        density = chance.random()
        pairs = [pair for pair in itertools.combinations(range(size), 2) if chance.random() < density]
        names = list(range(size))
        chance.shuffle(names)  # the order of making is not the order of the graph
        yield f"seed {seed}", _graph([chance.random() for _ in range(size)], [(names[a], names[b]) for a, b in pairs])


def _graph(seconds: list[float], pairs: list[tuple[int, int]]) -> Graph:
    vertices = [
        Vertex(id=str(n), kind="step", name=f"s{n % 3}", started=100.0 + n / 7, seconds=each)
        for n, each in enumerate(seconds)
    ]
    return Graph(vertices, [Edge(str(a), str(b)) for a, b in pairs])


def _compared(graph: Graph) -> Iterator[tuple[str, float, float]]:
    """Each number twice: ours, and one that is counted in another way."""
    found = measured(graph)
    peer = networkx.DiGraph()
    peer.add_nodes_from((id, {"seconds": one.seconds}) for id, one in graph.vertices.items())
    peer.add_edges_from((edge.source, edge.target) for edge in graph.edges)
    n = peer.number_of_nodes()
    paths = list(_paths(peer))
    yield "nodes", found.nodes, n
    yield "edges", found.edges, peer.number_of_edges()
    yield "depth", found.depth, networkx.dag_longest_path_length(peer) + 1 if n else 0
    yield "depth by all paths", found.depth, max(map(len, paths), default=0)
    yield "width", found.width, max((len(each) for each in networkx.topological_generations(peer)), default=0)
    yield "fan-out", found.fan_out, max((degree for _, degree in peer.out_degree()), default=0)
    yield "density", found.density, 2 * networkx.density(peer) if n > 1 else 0.0
    weights = [sum(peer.nodes[id]["seconds"] for id in path) for path in paths]
    critical = max(weights, default=0.0)
    yield "critical path by all paths", found.critical, critical
    yield "the critical path's seconds", sum(graph.vertices[id].seconds for id in found.critical_path), critical
    yield "work", found.work, sum(one.seconds for one in graph.vertices.values())
    yield "parallelism", found.parallelism, found.work / critical if critical else 1.0
    spans = [(one.started, one.started + one.seconds) for one in graph.vertices.values()]
    yield "together", found.together, max((sum(a <= at < b for a, b in spans) for at, _ in spans), default=0)


def _paths(peer: networkx.DiGraph) -> Iterator[list[str]]:
    """Every path that can't be made longer at its end, from every source."""
    waiting = [[id] for id in peer if not list(peer.predecessors(id))]
    while waiting:
        path = waiting.pop()
        after = list(peer.successors(path[-1]))
        if not after:
            yield path
        waiting += [[*path, one] for one in after]


# --- runs of random programs ------------------------------------------------------------------------------------------


async def _runs(report: Report, folder: Path, count: int, mutations: int) -> None:
    templates: list[Template] = []
    ran: list[list[tuple[str, list[Node]]]] = []
    async with weft.Runtime(str(folder / "journal.db"), durability="process") as runtime:
        for seed in range(count):
            workflow = programs.write(folder, seed).main
            templates.append(template_of(workflow))
            each = []
            for value in programs.inputs(3):
                run = await runtime.start(workflow, value)
                await run.result()
                await runtime.journal.barrier()
                each.append((run.id, [node async for node in read_run(runtime.store, run.id)]))
            ran.append(each)
        _covered(report, templates, ran)
        await _different(report, runtime, [one for each in ran for one in each], mutations)


def _covered(report: Report, templates: list[Template], ran: list[list[tuple[str, list[Node]]]]) -> None:
    chance = random.Random(3)
    whole, strange, effects, fooled, tried = 0, [], 0, 0, 0
    seconds = 0.0
    for seed, (template, each) in enumerate(zip(templates, ran, strict=True)):
        began = process_time()
        graphs = [graph_of(nodes) for _, nodes in each]
        found = [cover(template, graph) for graph in graphs]
        seconds += process_time() - began
        effects += sum(one.vertices for one in found)
        whole += all(one.whole for one in found)
        if not all(one.whole for one in found):
            strange.append(f"seed {seed}")
        for graph in (one for one in graphs if one.edges):
            tried += 1
            fooled += cover(_without(template, graph, chance), graph).whole
    rate = effects / max(seconds, 1e-9)
    total = len(templates)
    report.add("template", Measure(name="programs whose runs are in their template", unit="programs", runs=[whole]))
    report.add("template", Measure(name="graphs made and held against templates", unit="effects/CPU s", runs=[rate]))
    why = "; ".join(strange[:3]) or f"{total:,} programs, {effects:,} effects"
    report.bar("template", "programs wholly covered", whole / total, least=0.95, why=why)
    dynamic = sum(template.plasticity == "generate" for template in templates)
    report.bar("template", "templates with something that fits everything", dynamic, most=0)
    why = f"shows that the check can fail; {tried:,} runs"
    report.bar("template", "runs covered without a way that they took", fooled, most=0, why=why)


def _without(template: Template, graph: Graph, chance: random.Random) -> Template:
    """The template without any way that fits one of the edges of a run."""
    ways = contracted(template, lambda vertex: vertex.kind in CONTROL - {"start", "end"})
    edge = chance.choice(graph.edges)
    sources, targets = (template.matches(graph.vertices[id]) for id in edge[:2])
    left = [way for way in ways.edges if not (way.source in sources and way.target in targets)]
    return Template(ways.vertices.values(), left, template.name, template.sites)


async def _different(report: Report, runtime: weft.Runtime, runs: list[tuple[str, list[Node]]], count: int) -> None:
    itself = sum([not (await diff(runtime.store, run, run)).is_empty for run, _ in runs])
    report.bar("difference", "runs that differ from themselves", itself, most=0, why=f"{len(runs):,} runs")
    chance = random.Random(7)
    hit, missed = 0, []
    able = [(run, steps) for run, nodes in runs if (steps := [one for one in nodes if _is_mutable(one, run)])]
    for number in range(count):
        run, steps = able[number % len(able)]
        effect = chance.choice(steps)
        other = await runtime.fork(run, at=effect.effect, value=chance.randint(100, 10_000))
        await other.result()
        await runtime.journal.barrier()
        first = (await diff(runtime.store, run, other.id)).first
        what = "outcome" if effect.status == "ok" else "status"
        if first is not None and (first.what, first.path) == ((what,), (effect.effect,)):
            hit += 1
        else:
            missed.append(f"{run}:{effect.effect}: {first}")
    report.add("difference", Measure(name="first change found", unit="mutated runs", runs=[hit]))
    what = f"of {count:,} runs with one outcome changed, found as the first change"
    report.bar("difference", what, hit, least=count, why="; ".join(missed[:2]))


def _is_mutable(node: Node, run: str) -> bool:
    """An effect of the uppermost process whose outcome is a number."""
    return node.run == run and node.kind in ("step", "tool")
