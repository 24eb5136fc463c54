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
    np = numpy()
    at, near = np.meshgrid(np.arange(WINDOW), np.arange(-(KERNEL // 2), KERNEL // 2 + 1), indexing="ij")
    matrix = np.zeros((WINDOW, WINDOW), dtype=np.float32)
    np.add.at(matrix, (np.clip(at + near, 0, WINDOW - 1), at), 1.0 / KERNEL)
    return torch.from_numpy(matrix)


def _weight(torch: Any, *shape: int) -> Any:
    """As a linear layer of `shape[-2]` inputs begins."""
    limit = shape[-2] ** -0.5
    return torch.nn.Parameter(torch.empty(shape).uniform_(-limit, limit))


def _kernel(smooth: Any, season: Any, slow: Any) -> Any:
    """Weights of season and trend (…, row, out) as one: what both say is linear in the window."""
    return season + smooth @ (slow - season)


def _pretrained(torch: Any, data: Any, epochs: int) -> list[Any]:
    """The encoder's weights: season and trend, of each metric."""
    width = data.shape[1]
    encoder = [_weight(torch, width, WINDOW, INNER) for _ in range(2)]
    first, second = _weight(torch, width, INNER, PROJECTED), _weight(torch, width, PROJECTED, INNER)
    bend = torch.nn.PReLU()
    adam = torch.optim.Adam([*encoder, first, second, *bend.parameters()], lr=RATE, fused=True)
    smooth, stretches = _smoothing(torch), data.unfold(0, STRETCH, STEP).transpose(0, 1)
    for _ in range(epochs):
        for batch in stretches[:, torch.randperm(stretches.shape[1])].split(BATCH, dim=1):
            kernel = _kernel(smooth, *encoder)
            inner = [crop.flatten(1, 2) @ kernel for crop in _crops(torch, batch)]
            moved = [bend(one @ first) @ second for one in inner]
            shape = (width * batch.shape[1], -1, INNER)
            left, right = (one.view(shape) for one in moved)
            still_left, still_right = (one.detach().view(shape) for one in inner)
            loss = (_contrast(torch, left, still_right) + _contrast(torch, right, still_left)) / 2
            adam.zero_grad()
            loss.backward()
            adam.step()
    return [weight.detach() for weight in encoder]


def _crops(torch: Any, batch: Any) -> list[Any]:
    """Two crops of each stretch; of both, the windows that end at the moments they share, as (metric, stretch, moment,
    row). A crop knows nothing of what was before it: there its first value is repeated."""
    near = int(torch.randint(1, WINDOW, ()))
    start = int(torch.randint(0, STRETCH - WINDOW - near + 1, ()))
    crops = [batch[..., at : at + WINDOW] for at in (start, start + near)]
    windows = [
        torch.cat([crop[..., :1].expand(*crop.shape[:2], WINDOW - 1), crop], dim=2).unfold(2, WINDOW, 1)
        for crop in crops
    ]
    return [windows[0][:, :, near:], windows[1][:, :, : WINDOW - near]]


def _contrast(torch: Any, moved: Any, still: Any) -> Any:
    """Of each moment (stretch, moment, inner): is it most like itself in the other crop, among all moments of both?
    Over halved scales."""
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
    adam = torch.optim.Adam([*layers, *heads, *ends, attention, offset], lr=RATE, fused=True)
    smooth = _smoothing(torch)
    windows, answers = data.unfold(0, WINDOW, 1)[:-1].flatten(1), data[WINDOW:, targets.start : targets.stop]

    def effective() -> Any:
        """The whole forecaster as one weight of each row of each metric: layers multiplied from the end on, which is
        the same sum as through the layers, and a hundred times cheaper than for each window."""
        columns = [head @ end.view(count, width, HEAD, 1) for head, end in zip(heads, ends, strict=True)]
        kernel = _kernel(smooth, *(layer @ column for layer, column in zip(layers, columns, strict=True)))
        return (kernel * torch.softmax(attention, dim=1)[:, :, None, None]).flatten(1)

    def forecast(batch: Any) -> Any:
        return batch @ effective().T + offset

    for _ in range(epochs):
        for rows in torch.randperm(len(windows)).split(BATCH):
            # each target has weights of its own, so the sum of their errors trains each alone
            loss = ((forecast(windows[rows]) - answers[rows]) ** 2).mean(dim=0).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
    with torch.no_grad():
        gains = effective().view(count, width, WINDOW).sum(dim=2)
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
