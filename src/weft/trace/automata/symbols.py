"""A run as symbols: what an automaton learns from.

A symbol is what was called, how that call is related to earlier ones, and whether it failed, as in
`tool:edit after tool:read` and `tool:bash again x2 failed`. The relation says what the name alone does not: that a file
was edited which nobody had looked at before (`tool:edit new`), or that a call had the same result for the third time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from weft.core.codec import decode_plain
from weft.core.record import Blob, Outcome, Value
from weft.store.base import Store
from weft.trace.reading import Kind, kind_of, read_records

QUIET: frozenset[Kind] = frozenset({"clock", "random", "timer", "checkpoint", "control"})
"""What says nothing of how a program behaves."""
NAMED: frozenset[Kind] = frozenset({"step", "tool", "spawn", "ask", "event"})
"""What goes by its name, too; anything else by its kind alone."""
LONG = 300
"""Characters from which on a text among arguments is content and no name of anything."""
MOST = 3
"""Repeats that are told apart."""


class Call(msgspec.Struct, frozen=True):
    """One call: of a tool, a step, a model. `arguments`: JSON types; the texts in them say what it is about.
    `result`: anything that is equal where the result was."""

    name: str
    arguments: Any = None
    result: str = ""
    failed: bool = False


Named = Callable[[Call], str]
"""Something to add to a call's name, such as the template of its result; empty: nothing."""


class About(msgspec.Struct, frozen=True):
    """What a call's symbol depends on: its name, the texts that say what it is about, what is equal for the same call
    with the same result (None: nothing is known of either), and the words that come last."""

    name: str
    texts: list[str]
    same: tuple[str, bytes, str] | None
    last: list[str]


def about(call: Call, template: Named | None = None) -> About:
    """One call, looked at by itself."""
    texts = [text for text in _texts(call.arguments) if 0 < len(text) <= LONG]
    same = None
    if texts or call.result:
        same = call.name, msgspec.json.encode(call.arguments, order="deterministic"), call.result
    last = [told] if template is not None and (told := template(call)) else []
    return About(call.name, texts, same, [*last, "failed"] if call.failed else last)


def symbols_of_calls(calls: Iterable[Call], template: Named | None = None) -> list[str]:
    """The symbols of a run's calls, in their order."""
    return symbols_of([about(call, template) for call in calls])


def symbols_of(abouts: Sequence[About]) -> list[str]:
    """The same, of calls that were looked at already."""
    users: dict[str, tuple[int, str]] = {}
    times: dict[tuple[str, bytes, str], int] = {}
    found = []
    for at, one in enumerate(abouts):
        words = [one.name]
        if one.same is not None:
            before = times.get(one.same, 0)
            times[one.same] = before + 1
            if before:
                words.append(f"again x{min(before, MOST)}")
            elif users_before := [users[text] for text in one.texts if text in users]:
                words.append(f"after {max(users_before)[1]}")
            elif one.texts:
                words.append("new")
        for text in one.texts:
            users[text] = at, one.name
        found.append(" ".join(words + one.last))
    return found


async def symbols_of_run(store: Store, run: str, template: Named | None = None) -> list[str]:
    """The symbols of one process's effects, in the order in which their outcomes reached it."""
    return symbols_of_calls(await calls_of_run(store, run), template)


async def calls_of_run(store: Store, run: str) -> list[Call]:
    """One process's effects as calls. Of values that are kept aside for their size, only whether they are equal is
    looked at."""
    return [
        _call(record, kind)
        async for _, record in read_records(store, run)
        if type(record) is Outcome and (kind := kind_of(record.kind, record.role, record.name)) not in QUIET
    ]


def _call(record: Outcome, kind: Kind) -> Call:
    name = f"{kind}:{record.name}" if record.name and kind in NAMED else kind
    if kind not in ("step", "tool"):
        return Call(name, failed=not record.ok)
    arguments = record.args.hash.hex() if isinstance(record.args, Blob) else decode_plain(record.args)
    return Call(name, arguments, _same(record.value), not record.ok)


def _same(value: Value) -> str:
    return value.hash.hex() if isinstance(value, Blob) else value.hex()


def _texts(value: Any) -> Iterator[str]:
    """Texts among arguments, at any depth."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case dict(fields):
                waiting += fields.values()
            case list(items):
                waiting += items
