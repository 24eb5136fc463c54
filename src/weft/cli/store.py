"""`weft store copy`: runs from one store to another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import INTERRUPTED, STORE, UNKNOWN, complain, reported
from weft.cli.words import AsJson

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.store.copy import Report

SHOWN = 20
"""Runs that were left of which the terminal says why."""

stores = typer.Typer(name="store", help="Move runs between stores.", no_args_is_help=True)


@stores.command()
@reported
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A journal's file, or postgresql://user@host/db.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The same; what is missing is made.")],
    json: AsJson = False,
) -> None:
    """Copy all runs and shared memory, compare both ends, and let what is unfinished go on in TO.

    May be repeated at any time.

    Exit code 3: a run was left because somebody executes it; 4: because it is damaged, or something is in its way, or
    runs at both ends wrote to its memory.
    """
    import asyncio

    from weft.core.url import mask

    try:
        report, ends = asyncio.run(_copy(source, target))
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain("interrupted; nothing is lost, and nothing can run twice: repeat the same command to go on")
        raise typer.Exit(INTERRUPTED) from None
    for left in report.left[:SHOWN]:
        complain(left.text)
    if len(report.left) > SHOWN:
        complain(f"… and {len(report.left) - SHOWN:,} more runs were left (--json lists them)")
    _tell(report, ends, mask(target), json)
    if report.left:
        raise typer.Exit(UNKNOWN if all(left.why == "busy" for left in report.left) else STORE)


async def _copy(source: str, target: str) -> tuple[Report, tuple[str, str]]:
    import asyncio
    import signal

    from weft.store import open_store
    from weft.store.copy import copy, size

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    opened: list[Store] = []
    try:
        opened.append(open_store(source, create=False))
        opened.append(open_store(target))
        here, there = opened
        with _bar(await size(here)) as saw:
            return await copy(here, there, saw), (here.url, there.url)
    finally:
        for store in opened:
            await store.close()


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("copying"), BarColumn(), MofNCompleteColumn(), TextColumn("processes"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)


def _tell(report: Report, ends: tuple[str, str], target: str, json: bool) -> None:
    from weft.cli.render import out

    here, there = (f"{number:032x}" for number in (report.here, report.beyond))
    if json:
        plain: dict[str, Any] = {"from": ends[0], "to": ends[1]}
        plain |= {"copied": report.copied, "there": report.there, "gone": report.gone, "handed": report.handed}
        plain["memories"] = len(report.memories)
        plain |= {"digest": here, "digest_there": there}
        out({**plain, "left": [{"run": left.run, "why": left.why, "text": left.text} for left in report.left]})
        return
    print(f"{report.copied:,} runs copied, {report.there:,} were there, {report.gone:,} had moved before")
    if report.memories:
        print(f"{len(report.memories):,} shared or private memories are there, whole")
    print(f"digest {here} in {ends[0]}\n       {there} in {ends[1]}")
    if report.handed:
        print(f"{report.handed:,} processes go on there, with workers or by: weft resume --all --store {target}")
