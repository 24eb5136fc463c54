"""The published network on the cases of `causes`: its own ranking, and `rank` on its graph, beside the closed form.

Each graph takes half a minute of CPU or more. It is kept in the temporary folder, under a digest of the network's
source and of the case, so a run that was broken off goes on where it was. No bars.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import time
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.report import Measure, Report
from benchmarks.trace.lagged import Case
from weft.trace.causes import Graph, Series, granger, make_series, neural, rank

WAYS = ("closed form", "Weft on the network's graph", "published ranking")


def figures(report: Report, groups: dict[str, list[Case]]) -> None:
    """Of each group of cases: AC@k of each way, and the network's CPU-seconds."""
    for group, cases in groups.items():
        figure = f"the network, {group}, {len(cases)}"
        if find_spec("torch") is None:
            report.add(figure, Measure(name="the network", unit="AC@1", note="the extra `torch` is not installed"))
            continue
        places: dict[str, list[int]] = {name: [] for name in WAYS}
        seconds = []
        for number, case in enumerate(cases, 1):
            graph, spent = graph_of(case)
            seconds.append(spent)
            for name, order in zip(WAYS, _orders(case, graph), strict=True):
                places[name].append(order.index(case.cause) + 1)
            print(f"{figure}: {number} done, {sum(seconds):.0f} CPU-s", file=sys.stderr, flush=True)
        for name, its in places.items():
            within = {k: float(np.mean([place <= k for place in its])) for k in range(1, 6)} if its else {}
            more = {"AC@3": within[3], "AC@5": within[5], "Avg@5": float(np.mean(list(within.values())))}
            more["CPU-s"] = max(seconds) if name != WAYS[0] else 0.0
            report.add(figure, Measure(name=name, unit="AC@1", runs=[within[1]], more=more))


def _orders(case: Case, graph: Graph) -> tuple[list[str], list[str], list[str]]:
    normal, bad = _series(case)
    found = rank(normal, bad, graph=graph)
    own = [one.name for one in rank(normal, bad, graph=granger(normal)).causes]
    return own, [one.name for one in found.causes], neural.published_ranking(graph, found.symptom)


def graph_of(case: Case) -> tuple[Graph, float]:
    """The network's graph of the usual part, and the CPU-seconds it took; kept."""
    normal, _ = _series(case)
    source = inspect.getsource(neural).encode()
    name = blake2b(source + normal.values.tobytes(), digest_size=16).hexdigest()
    kept = Path(tempfile.gettempdir()) / "weft-networks" / f"{name}.npz"
    if not kept.is_file():
        import torch

        torch.set_num_threads(1)
        began = time.process_time()
        made = neural.neural_graph(normal).graph
        kept.parent.mkdir(exist_ok=True)
        partial = kept.with_suffix(".part.npz")
        np.savez(partial, gain=made.gain, doubt=made.doubt, noise=made.noise, scale=made.scale,
                 seconds=time.process_time() - began)  # fmt: skip
        partial.rename(kept)
    told = np.load(kept)
    graph = Graph(normal.names, told["gain"], told["doubt"], told["noise"], told["scale"])
    return graph, float(told["seconds"])


def _series(case: Case) -> tuple[Series, Series]:
    return make_series(case.metrics, case.normal), make_series(case.metrics, case.bad)
