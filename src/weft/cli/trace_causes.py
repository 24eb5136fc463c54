"""`weft trace causes`: which metric of a run, or of a file of metrics, made the others move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from rich.table import Table

    from weft.trace.causes import Ranking, Series

METRICS = "A run of Weft, or a CSV file: a line of names, a row a moment."


@reported
def causes(
    metrics: Annotated[str, typer.Argument(metavar="RUN|CSV", help=METRICS)],
    normal: Annotated[
        str | None,
        typer.Option(metavar="RUN|CSV", help="The usual. [default: what was before it changed most]"),
    ] = None,
    since: Annotated[
        float | None, typer.Option(help="It went bad then: a time of the file, or seconds from the run's start.")
    ] = None,
    symptom: Annotated[
        str | None, typer.Option(metavar="METRIC", help="What is to be explained. [default: what moved furthest]")
    ] = None,
    graph: Annotated[
        Literal["linear", "neural"],
        typer.Option(help="Who foretells whom: in closed form, or by the published network (slow; needs torch)."),
    ] = "linear",
    every: Annotated[float | None, typer.Option(help="Seconds of a bin of a run. [default: a hundredth of it]")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many are shown.")] = 5,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Rank what may have caused it: metrics of agents, tools and models that moved and are explained by no other."""
    from weft.cli.render import out, show
    from weft.trace.causes import rank

    usual, bad = _parts(metrics, normal, since, every, store)
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


def _parts(
    metrics: str, normal: str | None, since: float | None, every: float | None, store: str | None
) -> tuple[Series, Series]:
    from weft.core.errors import BadInput
    from weft.trace.causes import change_point

    series = _series(metrics, every, store)
    if normal is not None and since is not None:
        raise BadInput("--normal and --since both say what the usual is; give one of them")
    if normal is not None:
        return _series(normal, every, store), series
    row = int((series.times < since).sum()) if since is not None else change_point(series)
    if not 0 < row < len(series.values):
        raise BadInput(f"--since {since:g} is not inside {series.times[0]:g} to {series.times[-1]:g}")
    return series.split(row)


def _series(place: str, every: float | None, store: str | None) -> Series:
    from weft.trace.causes import read_csv

    if Path(place).exists() or place.endswith(".csv"):
        return read_csv(place)
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
