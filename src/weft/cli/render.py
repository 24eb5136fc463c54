"""Runs and journals as tables for people and as plain data for programs."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.codec import decode_plain
from weft.core.record import (
    AnyRecord,
    Approved,
    Attempt,
    Blob,
    Cancel,
    Decision,
    End,
    Fork,
    Granted,
    Outcome,
    Patch,
    Probed,
    Reserved,
    Started,
    from_column,
)

if TYPE_CHECKING:
    from rich.table import Table

    from weft.store.base import ProcessRow

COLOURS = {"done": "green", "failed": "red", "cancelled": "yellow", "interrupted": "magenta"}


def out(value: Any) -> None:
    """One JSON value on stdout."""
    json.dump(value, sys.stdout, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
    sys.stdout.write("\n")


def show(renderable: Any) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(renderable)


def moment(seconds: float | None) -> str | None:
    return None if not seconds else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def plain_value(value: bytes | Blob) -> Any:
    """A journal's value for people; large ones stay where they are."""
    if isinstance(value, Blob):
        return {"payload": value.hash.hex(), "bytes": value.size}
    return decode_plain(value)


def plain_column(data: bytes) -> Any:
    return plain_value(from_column(data))


def short(value: bytes | Blob, width: int = 60) -> str:
    text = f"<{value.size:,} bytes>" if isinstance(value, Blob) else json.dumps(decode_plain(value), ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"


def effect_name(kind: str, name: str) -> str:
    """What an effect is called: by its kind and name, or by its name alone where the kind says nothing more."""
    return name if kind in ("step", "process", name) else f"{kind} {name}"


def counted(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def plain_row(row: ProcessRow, state: str) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.structs.asdict(row)
    plain["state"] = state
    for name in ("created", "started", "updated", "wake_at"):
        plain[name] = moment(plain[name])
    for name in ("input", "result", "error"):
        plain[name] = None if plain[name] is None else plain_column(plain[name])
    plain["image"] = row.image.hex() or None
    return plain


def plain_record(record: AnyRecord) -> dict[str, Any]:
    plain: dict[str, Any] = {"record": type(record).__name__.lower(), **msgspec.structs.asdict(record)}
    for name in ("at", "started", "again"):
        if name in plain:
            plain[name] = moment(plain[name])
    for name in ("args", "value", "error"):
        if name in plain:
            plain[name] = plain_value(plain[name])
    if isinstance(record, Outcome) and record.usage is not None:
        plain["usage"] = msgspec.structs.asdict(record.usage)
    elif isinstance(record, Approved):
        plain["binding"] = record.binding.hex()
    elif isinstance(record, Granted):
        plain["spec"] = granted_text(record)
    return plain


def granted_text(record: Granted) -> str:
    """The capability that a person granted, as it is written."""
    from weft.core.capability import Capability, render

    return render(msgspec.msgpack.decode(record.spec, type=Capability), "/")


def runs_table(rows: list[tuple[ProcessRow, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("run", "workflow", "state", "age", "parent"):
        table.add_column(heading, no_wrap=True)
    for row, state in rows:
        cell = Text(state, style=COLOURS.get(state, ""))
        table.add_row(row.id, row.workflow, cell, age(time() - row.created), row.parent or "")
    return table


def journal_table(records: list[AnyRecord], limit: int) -> Table:
    """Effects in the order their outcomes reached the program; those in flight last."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("#", "effect", "arguments", "outcome", "took", "tries", "place"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", justify="right" if heading == "#" else "left")
    ended = {r.effect for r in records if isinstance(r, Outcome)}
    shown = [r for r in records if not isinstance(r, Started) or r.effect not in ended]
    for record in shown[:limit]:
        if isinstance(record, Outcome):
            took = f"{(record.at - record.started) * 1000:,.0f} ms" if record.started else ""
            if record.usage is not None and record.usage.paused is not None:
                took += f", paused {record.usage.paused_seconds:.1f} s"
            text = Text(short(record.value), style="" if record.ok else "red")
            tries = str(record.attempts) if record.attempts > 1 else ""
            name = effect_name(record.kind, record.name)
            table.add_row(str(record.effect), name, short(record.args, 40), text, took, tries, record.place)
        elif isinstance(record, Started):
            running = Text("in flight", style="yellow")
            table.add_row(str(record.effect), record.name, short(record.args, 40), running, "", "", record.place)
        elif isinstance(record, Attempt):
            text = Text(f"attempt {record.attempt} failed: {short(record.error)}", style="yellow")
            table.add_row(str(record.effect), record.name, "", text, "", "", "")
        elif isinstance(record, Decision):
            text = Text(
                f"{record.verdict}: {record.action} {record.resource}", style="red" if record.verdict == "deny" else ""
            )
            table.add_row(str(record.effect), "", "", text, "", "", "")
        elif isinstance(record, Probed):
            table.add_row(str(record.effect), f"probe {record.probe}", "", "see --probes", "", "", "")
        else:
            table.add_row("", mark(record), "", "", "", "", "")
    if len(shown) > limit:
        table.add_row("", f"… {len(shown) - limit:,} more (--effects N)", "", "", "", "", "")
    return table


def mark(record: AnyRecord) -> str:
    """What stands for a record that is about no effect's outcome."""
    match record:
        case Patch():
            return f"patched({record.id!r})"
        case Fork():
            return f"forked from {record.origin} here"
        case Cancel():
            return "cancellation reached the body"
        case End():
            return f"end: {record.state}"
        case Approved():
            return f"{record.who} about effect {record.effect}: {record.verdict}"
        case Granted():
            return f"a person granted: {granted_text(record)}"
        case Reserved():
            return f"uses set apart for effect {record.effect}"
        case Probed():
            return f"probe {record.probe} of effect {record.effect}"
    return type(record).__name__
