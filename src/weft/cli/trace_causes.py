"""`weft trace causes`: which metric of a run, or of a file of metrics, made the others move."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from rich.table import Table

    from weft.trace.causes import Ranking, Series

METRICS = "A run of Weft, or a file: CSV (wide or long), Prometheus' range query, OpenTelemetry's JSON."


@reported
def causes(
    metrics: Annotated[str, typer.Argument(metavar="RUN|FILE", help=METRICS)],
    normal: Annotated[
        str | None,
        typer.Option(metavar="RUN|FILE", help="The usual. [default: what was before it changed most]"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="It went bad then: a time of the file or a date, or seconds of the run."),
    ] = None,
    symptom: Annotated[
        str | None, typer.Option(metavar="METRIC", help="What is to be explained. [default: what moved furthest]")
    ] = None,
    graph: Annotated[
        Literal["linear", "neural"],
        typer.Option(help="Who foretells whom: in closed form, or by the published network (slow; needs torch)."),
    ] = "linear",
    every: Annotated[float | None, typer.Option(help="Seconds of a bin of a run. [default: a hundredth of it]")] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="The label that tells what a metric is of. [default: service, app, job, …]"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many are shown.")] = 5,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Rank what may have caused it: metrics of agents, tools and models that moved and are explained by no other."""
    from weft.cli.render import out, show
    from weft.trace.causes import rank

    usual, bad = _parts(metrics, normal, since, lambda place: _series(place, every, by, store))
    made = None
    if graph == "neural":
        from weft.trace.causes.neural import neural_graph
        from weft.trace.causes.series import paired

        made = neural_graph(paired(usual, bad)[0]).graph
    found = rank(usual, bad, graph=made, symptom=symptom)
    if json:
        from dataclasses import asdict

        out({**asdict(found), "since": float(bad.times[0])})
        return
    if not found.unusual:
        print("nothing unusual: no metric is far from what it was before")
        return
    show(_table(found, top))
    for one in found.causes[: min(top, 3)]:
        print(one.words)


def _parts(metrics: str, normal: str | None, since: str | None, read: Callable[[str], Series]) -> tuple[Series, Series]:
    from weft.core.errors import BadInput
    from weft.trace.causes import change_point

    series = read(metrics)
    if normal is not None and since is not None:
        raise BadInput("--normal and --since both say what the usual is; give one of them")
    if normal is not None:
        return read(normal), series
    row = int((series.times < _moment(since)).sum()) if since is not None else change_point(series)
    if not 0 < row < len(series.values):
        raise BadInput(f"--since {since} is not inside {series.times[0]:.10g} to {series.times[-1]:.10g}")
    return series.split(row)


def _moment(since: str) -> float:
    from weft.core.errors import BadInput
    from weft.trace.causes.samples import moment

    try:
        return moment(since)
    except ValueError as error:
        raise BadInput(f"--since: {error}") from None


def _series(place: str, every: float | None, by: str | None, store: str | None) -> Series:
    from weft.trace.causes import read_metrics

    if Path(place).exists() or Path(place).suffix in (".csv", ".json", ".jsonl"):
        found = read_metrics(place, by)
        if found.left_out:
            print(f"{place}: left out, with values in less than half of the rows: {', '.join(found.left_out)}",
                  file=sys.stderr)  # fmt: skip
        return found
    from weft.cli.look import ask, present
    from weft.trace.causes.journal import series_of_run

    row = present(store, place)
    return ask(store, lambda opened: series_of_run(opened, row.id, every))


def _table(found: Ranking, top: int) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for name in ("blame", "deviations", "unexplained", "before", "after", "since"):
        table.add_column(name, justify="right")
    for one in found.causes[:top]:
        levels = (f"{one.before:.4g}", f"{one.after:.4g}", f"{one.onset:.10g}")
        table.add_row(one.name, f"{one.score:.0%}", f"{one.far:,.1f}", f"{one.unexplained:.0%}", *levels)
    return table
