"""The published neural Granger graph, its bugs mended: `neural_graph(normal).graph`. Slow; needs the extra `torch`.

Lin, Chang, Ke, Liu, Luo, Zhang: Root Cause Analysis in Microservice Using Neural Granger Causal Discovery, AAAI 2024
(arXiv 2402.01140). Each metric's next value is foretold from windows of all metrics, split into a trend and a season;
an attention over the metrics tells which of them help. The encoder is trained first by contrast, without labels.

All metrics and a group of targets are one tensor, and the encoder is pretrained once for all targets: it depends on
none. The forecast is linear in its input, so its coefficients are read off exactly; they are the graph's gains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weft.core.errors import BadInput, MissingExtra
from weft.trace.causes.granger import FINEST, Graph
from weft.trace.causes.series import Series, numpy

if TYPE_CHECKING:
    from weft.trace.causes.series import Array

WINDOW, KERNEL, INNER, PROJECTED, HEAD = 32, 25, 128, 256, 32
EPOCHS, BATCH, RATE = 50, 128, 1e-3
STRETCH, STEP = 64, 8
"""Rows from which two crops of `WINDOW` are taken, and rows from one such stretch to the next."""
GROUP = 8
"""Targets that are trained at once; a matter of memory."""
FEW = 5
"""With so few metrics, every one whose attention grew is a cause."""


@dataclass(frozen=True, eq=False)
class Neural:
    """`graph`: without cycles. `attention`: effect by cause; it began as ones."""

    graph: Graph
    attention: Array


def neural_graph(normal: Series, *, epochs: int = EPOCHS, seed: int = 0) -> Neural:
    """The graph of the usual part; `epochs` of pretraining, and as many of forecasting. Raises BadInput for
    too few rows, MissingExtra without `torch`."""
    np, torch = numpy(), _torch()
    rows, width = normal.values.shape
    if rows < STRETCH + STEP or epochs < 1:
        raise BadInput(
            f"the network needs {STRETCH + STEP} usual rows and an epoch; there are {rows} rows, {epochs} epochs"
        )
    first = normal.values[: rows * 3 // 4]
    centre, spread = first.mean(axis=0), first.std(axis=0)
    spread = np.where(spread > 1e-9 * np.maximum(np.abs(centre), 1e-9), spread, 1.0)
    data = torch.tensor((normal.values - centre) / spread, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _pretrained(torch, data, epochs)
        parts = [
            _forecaster(torch, data, encoder, range(at, min(at + GROUP, width)), epochs)
            for at in range(0, width, GROUP)
        ]
    attention: Array = np.concatenate([part[0] for part in parts])
    gains: Array = np.concatenate([part[1] for part in parts])
    noise: Array = np.concatenate([part[2] for part in parts])
    chosen = np.stack([_chosen(row, effect) for effect, row in enumerate(attention)])
    edges = _without_cycles(chosen, normal.values)
    gain = np.where(edges | np.eye(width, dtype=bool), gains, 0.0)
    return Neural(Graph(normal.names, gain, np.zeros((width, width)), noise, spread), attention)


# --- the network --------------------------------------------------------------------------------------------------


def _smoothing(torch: Any) -> Any:
    """The moving average over time, ends repeated, as a matrix: `window @ matrix`."""
    matrix = torch.zeros(WINDOW, WINDOW)
    for at in range(WINDOW):
        for near in range(at - KERNEL // 2, at + KERNEL // 2 + 1):
            matrix[min(max(near, 0), WINDOW - 1), at] += 1.0 / KERNEL
    return matrix


def _weight(torch: Any, *shape: int) -> Any:
    """As a linear layer of `shape[-2]` inputs begins."""
    limit = shape[-2] ** -0.5
    return torch.nn.Parameter(torch.empty(shape).uniform_(-limit, limit))


def _embed(torch: Any, windows: Any, encoder: list[Any]) -> Any:
    """Of windows (any, metric, row): the sum of the embeddings of season and trend."""
    trend = windows @ _smoothing(torch)
    season, slow = encoder
    return torch.einsum("bcw,cwe->bce", windows - trend, season) + torch.einsum("bcw,cwe->bce", trend, slow)


def _pretrained(torch: Any, data: Any, epochs: int) -> list[Any]:
    """The encoder's weights: season and trend, of each metric."""
    width = data.shape[1]
    encoder = [_weight(torch, width, WINDOW, INNER) for _ in range(2)]
    first, second = _weight(torch, width, INNER, PROJECTED), _weight(torch, width, PROJECTED, INNER)
    bend = torch.nn.PReLU()
    adam = torch.optim.Adam([*encoder, first, second, *bend.parameters()], lr=RATE)
    stretches = data.unfold(0, STRETCH, STEP)
    for _ in range(epochs):
        for batch in stretches[torch.randperm(len(stretches))].split(BATCH):
            left, right = _crops(torch, batch)

            def projected(windows: Any) -> Any:
                inner = bend(torch.einsum("bce,cef->bcf", _embed(torch, windows, encoder), first))
                return torch.einsum("bcf,cfe->bce", inner, second)

            with torch.no_grad():
                still = [
                    _embed(torch, side.flatten(0, 1), encoder).unflatten(0, side.shape[:2]) for side in (left, right)
                ]
            moved = [projected(side.flatten(0, 1)).unflatten(0, side.shape[:2]) for side in (left, right)]
            loss = (_contrast(torch, moved[0], still[1]) + _contrast(torch, moved[1], still[0])) / 2
            adam.zero_grad()
            loss.backward()
            adam.step()
    return [weight.detach() for weight in encoder]


def _crops(torch: Any, batch: Any) -> tuple[Any, Any]:
    """Two crops of each stretch; of both, the windows that end at the moments they share, as (stretch, moment, metric,
    row). A crop knows nothing of what was before it: there its first value is repeated."""
    near = int(torch.randint(1, WINDOW, ()))
    start = int(torch.randint(0, STRETCH - WINDOW - near + 1, ()))
    crops = [batch[:, :, at : at + WINDOW] for at in (start, start + near)]
    windows = [
        torch.cat([crop[:, :, :1].expand(-1, -1, WINDOW - 1), crop], dim=2).unfold(2, WINDOW, 1).transpose(1, 2)
        for crop in crops
    ]
    return windows[0][:, near:], windows[1][:, : WINDOW - near]


def _contrast(torch: Any, moved: Any, still: Any) -> Any:
    """Of each moment: is it most like itself in the other crop, among all moments of both? Over halved scales."""
    moved, still = moved.permute(0, 2, 1, 3).flatten(0, 1), still.permute(0, 2, 1, 3).flatten(0, 1)
    losses = []
    while moved.shape[1] > 1:
        count = moved.shape[1]
        other = moved @ still.transpose(1, 2)
        own = (moved @ moved.transpose(1, 2)).masked_fill(torch.eye(count, dtype=torch.bool), float("-inf"))
        logits = torch.log_softmax(torch.cat([other, own], dim=2), dim=2)
        losses.append(-logits[:, torch.arange(count), torch.arange(count)].mean())
        moved, still = (
            torch.nn.functional.max_pool1d(one.transpose(1, 2), 2).transpose(1, 2) for one in (moved, still)
        )
    return torch.stack(losses).mean() if losses else (moved * 0.0).sum()


def _forecaster(torch: Any, data: Any, encoder: list[Any], targets: range, epochs: int) -> tuple[Array, Array, Array]:
    """Of these targets: attention, what one unit of each metric, kept up, adds to the next value, and the deviation of
    what is not foretold."""
    count, width = len(targets), data.shape[1]
    layers = [torch.nn.Parameter(weight.expand(count, *weight.shape).clone()) for weight in encoder]
    heads = [_weight(torch, count, width, INNER, HEAD) for _ in range(2)]
    ends = [_weight(torch, count, width * HEAD, 1) for _ in range(2)]
    attention = torch.nn.Parameter(torch.ones(count, width))
    offset = torch.nn.Parameter(torch.zeros(count))
    adam = torch.optim.Adam([*layers, *heads, *ends, attention, offset], lr=RATE)
    smooth = _smoothing(torch)
    windows, answers = data.unfold(0, WINDOW, 1)[:-1], data[WINDOW:, targets.start : targets.stop]

    def branch(part: Any, number: int) -> Any:
        inner = torch.einsum("bcw,kcwe->kbce", part, layers[number]) * torch.softmax(attention, dim=1)[:, None, :, None]
        outer = torch.einsum("kbce,kceh->kbch", inner, heads[number]).flatten(2)
        return torch.einsum("kbx,kxo->bk", outer, ends[number])

    def forecast(batch: Any) -> Any:
        trend = batch @ smooth
        return branch(batch - trend, 0) + branch(trend, 1) + offset

    for _ in range(epochs):
        for rows in torch.randperm(len(windows)).split(BATCH):
            # each target has weights of its own, so the sum of their errors trains each alone
            loss = ((forecast(windows[rows]) - answers[rows]) ** 2).mean(dim=0).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
    with torch.no_grad():
        units = torch.eye(width)[:, :, None].expand(width, width, WINDOW)
        gains = (forecast(units) - offset).T
        noise = ((forecast(windows) - answers) ** 2).mean(dim=0).sqrt().clamp(min=FINEST**0.5)
    found = (one.detach().numpy().astype(float) for one in (attention, gains, noise))
    return next(found), next(found), next(found)


# --- the graph ----------------------------------------------------------------------------------------------------


def _chosen(attention: Array, effect: int) -> Array:
    """Which metrics are causes: those above the widest gap in the upper half of the attentions that grew."""
    np = numpy()
    order = [one for one in np.argsort(-attention) if one != effect and attention[one] > 1.0]
    chosen: Array = np.zeros(len(attention), dtype=bool)
    if not order:
        return chosen
    keep = len(order)
    if len(attention) > FEW:
        gaps = -np.diff(attention[order])
        half = gaps[: max(1, len(order) // 2)]
        keep = int(np.argmax(half)) + 1 if len(half) and half.max() > 0 else 1
    chosen[order[:keep]] = True
    return chosen


def _without_cycles(edges: Array, values: Array) -> Array:
    """Effect by cause; of each cycle the edge whose metrics are least correlated is taken out."""
    np = numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.nan_to_num(np.abs(np.corrcoef(values.T)))
    edges = edges.copy()
    while (cycle := _cycle(edges)) is not None:
        pairs = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        edges[min(pairs, key=lambda pair: alike[pair])] = False
    return edges


def _cycle(edges: Array) -> list[int] | None:
    """Effects and their causes in a circle: each is an effect of the next."""
    np = numpy()
    done: set[int] = set()
    for start in range(len(edges)):
        if start in done:
            continue
        way = [start]
        stack = [(start, iter(np.flatnonzero(edges[start]).tolist()))]
        while stack:
            at, causes = stack[-1]
            step = next((one for one in causes if one not in done), None)
            if step is None:
                done.add(at)
                stack.pop()
                way.pop()
            elif step in way:
                return way[way.index(step) :]
            else:
                way.append(step)
                stack.append((step, iter(np.flatnonzero(edges[step]).tolist())))
    return None


def published_ranking(graph: Graph, symptom: str) -> list[str]:
    """All metrics by the paper's own score: PageRank from effects to causes, started twice as often where a metric has
    no cause; of equals, the nearer to the symptom. It looks at the graph alone, not at what moved."""
    np = numpy()
    if symptom not in graph.names:
        raise BadInput(f"there is no metric {symptom!r} in the graph")
    back = (graph.gain != 0) & ~np.eye(len(graph.names), dtype=bool)
    start = np.where(back.any(axis=1), 0.5, 1.0)
    start = start / start.sum()
    out = back.sum(axis=1, keepdims=True)
    step = np.where(out > 0, back / np.maximum(out, 1), start)
    score = np.linalg.solve(np.eye(len(start)) - 0.85 * step.T, 0.15 * start)
    away = np.full(len(start), len(start))
    ring, distance = [graph.names.index(symptom)], 0
    while ring:
        away[ring] = distance
        distance += 1
        near = np.flatnonzero(back[ring].any(axis=0))
        ring = [int(one) for one in near if away[one] == len(start)]
    order = sorted(range(len(start)), key=lambda one: (-round(float(score[one]), 12), away[one]))
    return [graph.names[one] for one in order]


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("the network needs the extra `torch`: pip install 'weft[torch]'") from error
    return torch
