"""Words that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Target = Annotated[str, typer.Argument(metavar="FILE[:WORKFLOW]", help="A Python file, or a dotted module.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or any part of it that is unique.")]
StorePlace = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="WEFT_STORE",
        help="The journal, a file or postgresql://user@host/db; else the settings file's, else .weft/journal.db.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Inputs = Annotated[list[str] | None, typer.Option("--input", "-i", help="JSON, @FILE with JSON, or key=value; repeat.")]
Durability = Annotated[str, typer.Option(help="full: survives the machine's death; process: this process's.")]
File = Annotated[str | None, typer.Option("--file", "-f", help="Where the workflow is declared now, if it moved.")]
Key = Annotated[str | None, typer.Option(help="Idempotency key: a second start returns the first run.")]

Base = Annotated[
    str | None, typer.Option("--policy", metavar="BASE", help="none, program, workspace (the default) or all.")
]
Everything = Annotated[bool, typer.Option("-A", help="Short for --policy all: it may do everything, unwatched.")]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", metavar="SPEC", help="It may do this too, as in write:./out; repeat.")
]
Ask = Annotated[list[str] | None, typer.Option("--ask", metavar="SPEC", help="A person is asked before this; repeat.")]
Deny = Annotated[list[str] | None, typer.Option("--deny", metavar="SPEC", help="It may never do this; repeat.")]
Spend = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="KIND=N,…", help="Limits, as in tokens=100_000,money=0.5; repeat."),
]
Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        metavar="MONITOR:STEP",
        help="See what a step, a tool or (:wasm) the sandbox's WebAssembly jobs do, as in hotness:shop.parse; repeat.",
    ),
]
