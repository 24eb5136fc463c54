"""The commands. Each reads its words, does one thing through the runtime or the store, and prints the result."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from weft.cli.audit import audits
from weft.cli.failures import INTERRUPTED, Interrupted, RunFailed, complain, reported
from weft.cli.look import ask, find_run, present, records_of, state_of
from weft.cli.place import default_store
from weft.cli.store import stores
from weft.cli.words import AsJson, Durability, File, Inputs, Key, RunId, StorePlace, Target
from weft.cli.work import submit, worker

if TYPE_CHECKING:
    from weft.core.record import AnyRecord
    from weft.runtime.handle import Run
    from weft.runtime.runtime import Runtime
    from weft.store.base import ProcessRow, Store

T = TypeVar("T")

app = typer.Typer(
    name="weft",
    help="Run agent programs durably, and see what happened.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# --- running ------------------------------------------------------------------------------------------------


@app.command()
@reported
def run(
    target: Target,
    input: Inputs = None,
    model: Annotated[str | None, typer.Option(help="Short for --input model=NAME.")] = None,
    key: Key = None,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Run a workflow, show its progress, and print its result."""
    from weft.cli.load import arguments, find
    from weft.core.errors import BadInput

    workflow = find(target)
    words = list(input or ())
    if model is not None:
        if "model" not in workflow.names:
            raise BadInput(f"{workflow.name}{workflow.signature} takes no model; leave out --model")
        words.append(f'{{"model": {_quoted(model)}}}')
    args, kwargs = arguments(workflow, words)

    async def start(runtime: Runtime) -> Run[Any]:
        return await runtime.start(workflow.options(key=key), *args, **kwargs)

    _finish(_host(store, durability, start), json)


@app.command()
@reported
def resume(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's id or part of it.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Every unfinished run that nobody executes.")] = False,
    file: File = None,
    force: Annotated[bool, typer.Option(help="Even if it keeps killing its process.")] = False,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Continue a run after a crash or an interruption: finished effects are not made again."""
    from weft.core.errors import BadInput

    if (run is None) == (not all):
        raise BadInput("name a run, or say --all")
    if all:
        _resume_all(store, durability, json)
        return
    assert run is not None
    row = present(store, run)
    _declare(row, file)

    async def again(runtime: Runtime) -> Run[Any]:
        return await runtime.resume(row.id, force=force)

    _finish(_host(store, durability, again), json)


@app.command()
@reported
def fork(
    run: RunId,
    at: Annotated[int, typer.Option(help="Number of the effect to make anew (see `weft show`).")],
    input: Inputs = None,
    value: Annotated[str | None, typer.Option(help="JSON: take this as that effect's outcome instead.")] = None,
    file: File = None,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Time travel: a new run that shares a run's history up to one effect, with the code as it is now."""
    from weft.cli.load import arguments
    from weft.core.declare import find_workflow

    row = ask(store, lambda s: find_run(s, run))
    _declare(row, file)
    given = arguments(find_workflow(row.workflow), input) if input else None
    replaced = ... if value is None else _from_json(value, "--value")

    async def go(runtime: Runtime) -> Run[Any]:
        return await runtime.fork(row.id, at=at, input=given, value=replaced)

    _finish(_host(store, durability, go), json)


@app.command()
@reported
def cancel(run: RunId, file: File = None, store: StorePlace = None, json: AsJson = False) -> None:
    """Ask a run to stop. It may clean up; wherever it is executed, its executor is told."""
    from weft.store.base import FINISHED

    row = present(store, run)
    if row.state not in FINISHED:
        _declare(row, file)

    async def go(runtime: Runtime) -> str:
        await runtime.cancel(row.id)
        return (await runtime.end_of(row.id)).state

    state = row.state if row.state in FINISHED else asyncio.run(_with_runtime(store, "full", go))
    _say({"run": row.id, "state": state}, f"run {row.id}: {state}", json)


@app.command()
@reported
def send(
    run: RunId,
    box: Annotated[str, typer.Argument(help="The mailbox's name.")],
    value: Annotated[str, typer.Argument(help="JSON.")],
    file: File = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Send a letter to a run's mailbox. It waits there until the run receives it."""
    row = present(store, run)
    letter = _from_json(value, "the letter")
    _declare(row, file)
    from weft.runtime.effects import mailboxes

    if box in mailboxes:
        letter = mailboxes[box].check(letter)

    async def go(runtime: Runtime) -> None:
        await runtime.send(row.id, box, letter)

    asyncio.run(_with_runtime(store, "full", go))
    _say({"run": row.id, "box": box, "sent": True}, f"sent to {row.id}, box {box}", json)


app.command()(submit)
app.command()(worker)
app.add_typer(stores)
app.add_typer(audits, name="audit")


# --- looking --------------------------------------------------------------------------------------------------


@app.command()
@reported
def ps(
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; repeat.")] = None,
    all: Annotated[bool, typer.Option("--all", "-a", help="Children too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    from weft.cli.render import out, plain_row, runs_table, show

    async def look(opened: Store) -> list[tuple[ProcessRow, str]]:
        rows = await opened.rows(roots=not all, limit=limit if not state else 100_000)
        found = [(row, await state_of(opened, row)) for row in rows]
        return [pair for pair in found if not state or pair[1] in state][:limit]

    rows = ask(store, look)
    if json:
        out([plain_row(*pair) for pair in rows])
    elif rows:
        show(runs_table(rows))
    else:
        print("no runs" + (f" in state {', '.join(state)}" if state else "") + "; start one with: weft run FILE")


@app.command(name="show")
@reported
def show_(
    run: RunId,
    effects: Annotated[int, typer.Option("--effects", min=0, help="How many effects to show.")] = 100,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Show a run: its state, its input and result, and every effect in the order it reached the program."""
    from weft.cli.render import age, journal_table, out, plain_column, plain_record, plain_row, show
    from weft.store.handover import gone

    async def look(opened: Store) -> tuple[ProcessRow, str, list[AnyRecord], list[ProcessRow]]:
        row = await find_run(opened, run)
        return row, await state_of(opened, row), await records_of(opened, row.id), await opened.rows(parent=row.id)

    row, state, records, children = ask(store, look)
    if json:
        parts = {"journal": [plain_record(r) for r in records], "children": [plain_row(c, c.state) for c in children]}
        out({**plain_row(row, state), **parts})
        return
    import json as js

    def line(name: str, text: object) -> None:
        print(f"{name:<9} {text}")

    line("run", row.id)
    line("workflow", f"{row.workflow}  ({row.source})")
    line("state", f"{state}, {age(row.updated - row.created)} long, {len(records):,} records")
    if row.forked:
        line("forked", row.forked)
    if row.parent:
        line("parent", row.parent)
    line("input", _cut(js.dumps(plain_column(row.input), ensure_ascii=False)))
    for name in ("result", "error"):
        data = getattr(row, name)
        if data is not None:
            line(name, _cut(js.dumps(plain_column(data), ensure_ascii=False)))
    for child in reversed(children):
        line("child", f"{child.id}  {child.workflow}  {child.state}")
    if effects and records:
        print()
        show(journal_table(records, effects))
    if state == "interrupted":
        print(f"\ncontinue it with: weft resume {row.id}")
    elif state == "moved":
        print(f"\n{gone(row)}")


@app.command()
@reported
def export(
    run: RunId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of stdout.")] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Write a run, its journal and its children as JSON lines."""
    import json as js

    from weft.cli.render import plain_record, plain_row

    async def look(opened: Store) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        waiting = [await find_run(opened, run)]
        while waiting:
            row = waiting.pop(0)
            lines.append({"process": row.id, "record": "process", **plain_row(row, await state_of(opened, row))})
            lines.extend({"process": row.id, **plain_record(r)} for r in await records_of(opened, row.id))
            waiting.extend(reversed(await opened.rows(parent=row.id, limit=1_000_000)))
        return lines

    lines = ask(store, look)
    text = "".join(js.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    if output is None:
        sys.stdout.write(text)
        return
    from weft.core.errors import BadInput

    try:
        output.write_text(text)
    except OSError as error:
        raise BadInput(f"{output} could not be written: {error}") from None
    _say({"file": str(output), "lines": len(lines)}, f"{len(lines):,} lines in {output}", json)


@app.command()
@reported
def gc(
    older_than: Annotated[str, typer.Option("--older-than", help="Age since a run ended: 30d, 12h, 90m, 10s.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Delete runs that ended long ago, with their journals and payloads."""
    from time import time

    from weft.store.base import FINISHED

    before = time() - _seconds(older_than)

    async def sweep(opened: Store) -> tuple[list[str], int]:
        ids = [row.id for row in await opened.rows(states=FINISHED, before=before, limit=1_000_000)]
        return ids, 0 if dry_run else await opened.delete(ids)

    ids, count = ask(store, sweep)
    words = f"{len(ids):,} runs would be deleted" if dry_run else f"{count:,} runs deleted"
    _say({"runs": ids, "deleted": count}, words, json)


@app.command()
@reported
def doctor(store: StorePlace = None, json: AsJson = False) -> None:
    """Say what this machine offers, what is missing, and how to get it."""
    from weft.cli.doctor import examine
    from weft.cli.render import out

    findings = examine(store or default_store())
    if json:
        out([{"what": f.what, "ok": f.ok, "found": f.found, "fix": f.fix} for f in findings])
        return
    for finding in findings:
        mark = "ok     " if finding.ok else "missing"
        print(f"{mark}  {finding.what:<16} {finding.found}" + (f"\n         {finding.fix}" if finding.fix else ""))


# --- shared -----------------------------------------------------------------------------------------------------


def _say(plain: dict[str, Any], words: str, json: bool) -> None:
    from weft.cli.render import out

    out(plain) if json else print(words)


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)


def _from_json(text: str, what: str) -> Any:
    import json

    from weft.core.errors import BadInput

    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{what} {text[:80]!r} is not JSON: {error}; quote strings, as in '\"yes\"'") from None


def _seconds(age: str) -> float:
    from weft.core.errors import BadInput

    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    try:
        return float(age[:-1]) * units[age[-1]]
    except (KeyError, ValueError, IndexError):
        raise BadInput(f"{age!r} is not an age; write a number and d, h, m or s, as in 30d") from None


def _cut(text: str, width: int = 300) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _declare(row: ProcessRow, file: str | None) -> None:
    """Load the file that declares a run's workflow, unless that is done."""
    from weft.cli.load import load
    from weft.core.declare import find_workflow, registry

    if row.workflow not in registry:
        load(file or row.source)
    find_workflow(row.workflow)


async def _with_runtime(place: str | None, durability: str, use: Callable[[Runtime], Awaitable[T]]) -> T:
    from weft.runtime.runtime import Runtime

    async with Runtime(place or default_store(), durability=durability) as runtime:  # type: ignore[arg-type]
        return await use(runtime)


def _host(place: str | None, durability: str, begin: Callable[[Runtime], Awaitable[Run[Any]]]) -> tuple[str, Any]:
    """Begin a run and see it through, with its progress: (id, result)."""
    import signal

    from weft.cli.progress import Progress
    from weft.core.errors import Divergence, RunMoved, StoreError, WeftError

    begun: list[str] = []

    async def watch(runtime: Runtime) -> Any:
        handle = await begin(runtime)
        begun.append(handle.id)
        await runtime.journal.barrier()
        row = await runtime.row(handle.id)
        with Progress(runtime, handle.id, row.workflow):
            try:
                return await handle
            except (StoreError, Divergence, RunMoved):
                raise
            except Exception as error:
                raise RunFailed(handle.id, error) from error

    async def main() -> Any:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await _with_runtime(place, durability, watch)

    try:
        return _first(begun, asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Interrupted(begun[0] if begun else None) from None
    except WeftError as error:
        if begun and isinstance(error, StoreError):
            complain(f"run {begun[0]} stopped; when that is mended, continue it with: weft resume {begun[0]}")
        raise


def _first(begun: list[str], result: Any) -> tuple[str, Any]:
    return begun[0], result


def _finish(end: tuple[str, Any], json: bool) -> None:
    """Print a result."""
    from weft.cli.render import out
    from weft.core.codec import to_plain

    id, result = end
    plain = to_plain(result)
    if json:
        out({"run": id, "state": "done", "result": plain})
    elif isinstance(plain, str):
        print(plain)
    elif plain is not None:
        out(plain)


def _resume_all(place: str | None, durability: str, json: bool) -> None:
    from weft.cli.load import load
    from weft.cli.render import out
    from weft.core.errors import BadInput
    from weft.store.base import FINISHED, QUEUED, RUNNING, WAITING

    async def unfinished(opened: Store) -> list[ProcessRow]:
        return await opened.rows(states=(RUNNING, WAITING, QUEUED), limit=1_000_000)

    for source in sorted({row.source for row in ask(place, unfinished)}):
        try:
            load(source)
        except BadInput as error:
            complain(str(error))

    async def go(runtime: Runtime) -> list[dict[str, Any]]:
        runs = await runtime.resume_all()
        ends = [await runtime.end_of(run.id) for run in runs]
        return [{"run": row.id, "state": row.state} for row in ends if row.state in FINISHED]

    try:
        ended = asyncio.run(_with_runtime(place, durability, go))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if json:
        out(ended)
    else:
        for end in ended:
            print(f"run {end['run']}: {end['state']}")
        print(f"{len(ended)} runs resumed")
