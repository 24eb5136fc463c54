"""`weft trace`: what a trace tells, of Weft or of any other framework."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from weft.trace.anomalies import Finding

traces = typer.Typer(help="Judge traces of agents.", no_args_is_help=True)

SHOWN = 50
"""Findings that are printed for a person."""


@traces.command(name="check")
@reported
def check_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines of operations, or spans of OpenTelemetry.")],
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
    json: AsJson = False,
) -> None:
    """Did agents act on stale values, cascade, reorder effects, or call tools that were gone? Exits with 1 if so."""
    from weft.cli.render import out, show
    from weft.trace.anomalies import check
    from weft.trace.otel import load_history

    history = load_history(file)
    found = check(history, level, residue=residue, initial=_cells(initial))
    if json:
        import msgspec

        out({"operations": len(history), "level": level, "findings": [msgspec.structs.asdict(one) for one in found]})
    else:
        if found:
            show(_table(found[:SHOWN]))
        print(_sum(len(history), found))
    if found:
        raise typer.Exit(1)


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
