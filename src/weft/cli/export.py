"""`weft export`: runs in the forms that other programs read, into a file, on stdout, or to a collector."""

from __future__ import annotations

import json as js
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.export.content import Content
    from weft.trace.spans import Span

Form = Literal["jsonl", "otlp", "chrome", "xes", "ocel"]
MANY = 100_000
"""Runs that are exported at once."""


@reported
def export(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids of runs, or parts of them that are unique.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs of the store.")] = False,
    workflow: Annotated[str | None, typer.Option(help="All runs of this workflow.")] = None,
    form: Annotated[
        Form,
        typer.Option("--as", help="jsonl: the journal; otlp: spans; chrome: for Perfetto; xes, ocel: process mining."),
    ] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of stdout.")] = None,
    otlp: Annotated[
        str | None,
        typer.Option(metavar="URL|FILE", help="Send spans to a collector, or write them; FILE.pb: protobuf."),
    ] = None,
    content: Annotated[
        bool, typer.Option("--content", help="With spans: messages, arguments and results, too.")
    ] = False,
    redact: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="With --content: what fits is left out; repeat.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="DIR", help="The page with one run in it, to open from a disk.")
    ] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Write runs, each with its children, in one of several forms, or one as a folder that a browser opens."""
    if page is not None:
        _save_page(runs or [], page, store, json)
        return
    from weft.cli.host import say
    from weft.cli.look import ask

    address = otlp if otlp is not None and "://" in otlp else None
    if otlp is not None:
        form, output = "otlp", None if address else Path(otlp)
    told = _content(form, content, redact or [])

    async def work(opened: Store) -> int:
        ids = await _chosen(opened, runs or [], every, workflow)
        if address is not None:
            return await _send(_spans(opened, ids, told), address)
        return await _write(opened, ids, form, output, told)

    count = ask(store, work)
    where = address or output
    if where is not None:
        from weft.core.url import mask

        unit, shown = {"jsonl": "lines", "otlp": "spans"}.get(form, "events"), mask(str(where))
        say({"to" if address else "file": shown, unit: count}, f"{count:,} {unit} in {shown}", json)


def _save_page(runs: Sequence[str], folder: Path, store: str | None, json: bool) -> None:
    from weft.cli.host import say
    from weft.cli.look import ask, find_run
    from weft.core.errors import BadInput
    from weft.web.page.saved import save

    if len(runs) != 1:
        raise BadInput("--page is of one run: give its id")

    async def look(opened: Store) -> int:
        return await save(opened, (await find_run(opened, runs[0])).id, folder)

    try:
        spans = ask(store, look)
    except OSError as error:
        raise BadInput(f"{folder} could not be written: {error}") from None
    file = folder / "index.html"
    say({"file": str(file), "spans": spans}, f"{spans:,} spans; open {file} in a browser", json)


def _content(form: Form, content: bool, redact: Sequence[str]) -> Content | None:
    from weft.core.errors import BadInput
    from weft.trace.export.content import Content

    if redact and not content:
        raise BadInput("--redact goes with --content: without it, nothing of what went in or came out is exported")
    if content and form != "otlp":
        raise BadInput(f"--content is of spans: say --as otlp; jsonl always has all, and {form} never has any")
    return Content(redact) if content else None


async def _chosen(store: Store, runs: Sequence[str], every: bool, workflow: str | None) -> list[str]:
    from weft.cli.look import find_run
    from weft.core.errors import BadInput, UnknownRun

    if sum([bool(runs), every, workflow is not None]) != 1:
        raise BadInput("say what to export: ids of runs, --all, or --workflow NAME")
    if runs:
        return [(await find_run(store, run)).id for run in runs]
    rows = await store.rows(roots=every, limit=MANY)
    found = [row.id for row in reversed(rows) if every or row.workflow == workflow]
    if not found:
        raise UnknownRun(f"there is no run{'' if every else f' of {workflow!r}'} in {store.url}; `weft ps` lists them")
    return found


async def _write(store: Store, runs: list[str], form: Form, output: Path | None, content: Content | None) -> int:
    if form == "jsonl":
        return await write_lines(store, runs, output)
    if form == "otlp":
        from weft.trace.export.otlp import write

        return await write(_spans(store, runs, content), output)
    from weft.trace.export import chrome, ocel, xes

    return await {"chrome": chrome.write, "xes": xes.write, "ocel": ocel.write}[form](store, runs, output)


async def _spans(store: Store, runs: Sequence[str], content: Content | None) -> AsyncIterator[Span]:
    from weft.trace.export.genai import spans_of_run

    for run in runs:
        async for span in spans_of_run(store, run, content):
            yield span


async def _send(spans: AsyncIterator[Span], address: str) -> int:
    from weft.trace.export.otlp import batches
    from weft.trace.export.send import Collector

    collector, count = Collector(address), 0
    async for batch in batches(spans):
        await collector.send(batch)
        count += len(batch)
    return count


async def write_lines(store: Store, runs: Sequence[str], output: Path | None) -> int:
    """Each process and each record of its journal as a line of JSON."""
    from weft.cli.look import state_of
    from weft.cli.render import plain_record, plain_row
    from weft.trace.export.files import written
    from weft.trace.export.genai import family
    from weft.trace.reading import read_records

    count = 0
    with written(output) as out:
        for run in runs:
            async for row in family(store, run):
                line = {"process": row.id, "record": "process", **plain_row(row, await state_of(store, row))}
                out.write(js.dumps(line, ensure_ascii=False).encode() + b"\n")
                count += 1
                async for _, record in read_records(store, row.id):
                    line = {"process": row.id, **plain_record(record)}
                    out.write(js.dumps(line, ensure_ascii=False).encode() + b"\n")
                    count += 1
    return count
