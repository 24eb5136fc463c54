"""`weft trace`: what a trace tells, of Weft or of any other framework."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weft.cli.failures import reported
from weft.cli.graphs import graphs, template
from weft.cli.trace_automata import automaton, learn, surprise
from weft.cli.trace_causes import causes
from weft.cli.trace_generate import generate
from weft.cli.trace_probe import probe
from weft.cli.trace_templates import templates
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from rich.table import Table

    from weft.store.base import Store
    from weft.trace.anomalies import Finding
    from weft.trace.history import Operation
    from weft.trace.turns import Report

traces = typer.Typer(help="Judge and measure traces of agents.", no_args_is_help=True)
traces.command(name="graphs")(graphs)
traces.command(name="template")(template)
traces.command(name="learn")(learn)
traces.command(name="surprise")(surprise)
traces.command(name="automaton")(automaton)
traces.command(name="templates")(templates)
traces.command(name="causes")(causes)
traces.command(name="probe")(probe)
traces.command(name="generate")(generate)

SHOWN = 50
"""Findings that are printed for a person."""


@traces.command(name="check")
@reported
def check_(
    trace: Annotated[
        str,
        typer.Argument(
            metavar="FILE|RUN",
            help="JSON lines of operations, spans of OpenTelemetry, or a run of Weft with its children.",
        ),
    ],
    level: Annotated[
        Literal["L0", "L1", "L2", "L3", "L4"] | None,
        typer.Option(help="Judge by this level. [default: the one that each operation ran at, or L1]"),
    ] = None,
    residue: Annotated[
        bool | None,
        typer.Option(
            "--residue/--no-residue",
            help="From L2 on, look for values that nobody in the trace wrote. [default: if it tells no predecessors]",
        ),
    ] = None,
    initial: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="What cells held at first, one JSON object; what is not in it held nothing. "
            "[default: each may have held one value]",
        ),
    ] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Did agents act on stale values, cascade, reorder effects, or call tools that were gone? Exits with 1 if so."""
    from weft.cli.render import out, show
    from weft.trace.anomalies import check
    from weft.trace.otel import load_history

    history, judged = (load_history(Path(trace)), None) if _is_file(trace) else _of_run(store, trace)
    found = check(history, level, residue=residue, initial=_cells(initial))
    if judged is not None:
        history = [one for one in history if one.id in judged]
        found = [one for one in found if one.operation in judged]
    if json:
        import msgspec

        out({"operations": len(history), "level": level, "findings": [msgspec.structs.asdict(one) for one in found]})
    else:
        if found:
            show(_table(found[:SHOWN]))
        print(_sum(len(history), found))
    if found:
        raise typer.Exit(1)


@traces.command(name="import")
@reported
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Spans: OTLP (JSON, lines, .pb), or a framework's own JSON.")
    ],
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Write traces of other frameworks into a store, as runs that are over: show, graph and query them like any other.

    What is imported says so: its version is `imported`, its source names the file. A file that is imported again
    changes nothing.
    """
    from weft.cli.host import say
    from weft.cli.look import ask
    from weft.trace.imported import Imported, import_spans
    from weft.trace.spans import read_spans

    read = [(file, read_spans(file)) for file in files]

    async def work(opened: Store) -> list[Imported]:
        return [await import_spans(opened, spans, f"imported from {file}") for file, spans in read]

    reports = ask(store, work)
    runs = [run for one in reports for run in one.runs]
    known = [run for one in reports for run in one.known]
    effects = sum(one.effects for one in reports)
    there = f"; {len(known):,} were there already" if known else ""
    for run in [] if json else runs:
        print(run)
    say({"runs": runs, "known": known, "effects": effects}, f"{len(runs):,} runs, {effects:,} effects{there}", json)


@traces.command(name="turns")
@reported
def turns_(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs; their children are looked at, too.")],
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """On what agents spent their turns: how many, at what cost, how many were wasted, what one that is solved costs."""
    from weft.cli.look import ask, present
    from weft.cli.render import out, show
    from weft.trace.turns import report_of

    rows = [present(store, run) for run in runs]

    async def look(opened: Store) -> Report:
        families = [(await opened.subtree(row.id)).rows for row in rows]
        return await report_of(opened, list(dict.fromkeys(id for family in families for id in family)))

    report = ask(store, look)
    if json:
        import msgspec

        sums = {"solved": report.solved, "wasted": report.wasted, "limited": report.limited}
        per_solved = {kind: report.per_solved(kind) for kind in ("turns", "tokens", "money", "seconds")}
        out({"runs": [msgspec.structs.asdict(one) for one in report.runs], **sums, "per_solved": per_solved})
    else:
        show(_spent(report))
        print(_costs(report))


def _spent(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("run", "workflow", "ended"):
        table.add_column(name, no_wrap=True)
    for name in ("turns", "wasted", "tokens", "money", "seconds"):
        table.add_column(name, justify="right")
    for one in report.runs:
        amounts = (str(one.turns), str(one.wasted), f"{one.tokens:,}", f"{one.money:.4f}", f"{one.seconds:.1f}")
        table.add_row(one.run, one.workflow, one.ended, *amounts)
    return table


def _costs(report: Report) -> str:
    if not report.runs:
        return "no turn was taken"
    runs = "1 run" if len(report.runs) == 1 else f"{len(report.runs):,} runs"
    turns = f"{report.total('turns'):,.0f} turns, {report.wasted:.0%} of them wasted"
    at = ", ".join(f"{p} % took at most {report.percentile(p):.0f}" for p in (25, 50, 75))
    told = f"{runs}, {report.solved} done, {report.limited:.0%} came to a limit; {turns}; {at}"
    if not report.solved:
        return told
    tokens, money = report.per_solved("tokens"), report.per_solved("money")
    return f"{told}; each that is done took {tokens:,.0f} tokens, ${money:.4f}"


def _is_file(trace: str) -> bool:
    return Path(trace).exists() or any(mark in trace for mark in "./\\")


def _of_run(store: str | None, run: str) -> tuple[list[Operation], set[str]]:
    """The operations of a run and its children, and of all that shared a memory with them; and the ids of its own."""
    from weft.cli.look import ask, present
    from weft.trace.journal_history import history_of_runs, with_neighbours

    row = present(store, run)

    async def look(opened: Store) -> tuple[list[Operation], set[str]]:
        family = list((await opened.subtree(row.id)).rows)
        own = await history_of_runs(opened, family)
        return await with_neighbours(opened, family, own), {one.id for one in own}

    return ask(store, look)


def _cells(initial: str | None) -> dict[str, str] | None:
    import msgspec

    from weft.core.errors import BadInput

    if initial is None:
        return None
    try:
        return msgspec.json.decode(initial, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise BadInput(f"--initial is not a JSON object of texts: {error}") from None


def _table(found: Sequence[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from weft.trace.anomalies import NAMES

    table = Table(box=None, pad_edge=False)
    table.add_column("anomaly", no_wrap=True)
    table.add_column("what happened", overflow="fold")
    for one in found:
        name = NAMES[one.kind] if one.kind == "residue" else f"{one.kind} {NAMES[one.kind]}"
        table.add_row(Text(name, style="red"), Text(one.words))
    return table


def _sum(operations: int, found: Sequence[Finding]) -> str:
    hidden = f" (the first {SHOWN} are shown; --json has all)" if len(found) > SHOWN else ""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(Counter(one.kind for one in found).items()))
    anomalies = "1 anomaly" if len(found) == 1 else f"{len(found):,} anomalies"
    checked = "1 operation" if operations == 1 else f"{operations:,} operations"
    return f"{checked} checked, {anomalies}" + (f": {kinds}{hidden}" if kinds else "")
