"""After the child has died: make its sequences again in a new one.

A sequence whose state was saved gets that state back, bit for bit, and what came after it is computed again; others are
computed again from their tokens, a shared prefix once. Where rows were published, row after row is computed, and
published, as it was. (What was computed otherwise, a token at a time or next to others, may differ in the last bits,
and a span that was moved by a shift is computed at its new place. Who needs the very bits saves.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from weft.core.errors import ModelCrashed
from weft.model.engine import wire
from weft.model.engine.line import Book, Cell, Line

Ask = Callable[[wire.Order], Any]


def remake(book: Book, ask: Ask, chunk: int, cells: int) -> int:
    """Give a new, empty child, which has so many cells, all that the book says. Returns how many tokens were computed
    again."""
    waiting = [line for line in book.lines.values() if not line.woven]
    waiting.sort(key=lambda line: (line.saved is None, len(line.cells)))
    count = 0
    done: list[Line] = []
    while waiting:
        line = waiting.pop(0)
        start = _begun(line, done, waiting, book, ask, cells)
        count += _computed(line, start, ask, chunk)
        done.append(line)
    return count + _woven([line for line in book.lines.values() if line.woven], done, ask, chunk)


def _begun(line: Line, done: list[Line], waiting: list[Line], book: Book, ask: Ask, cells: int) -> int:
    """Its first cells, by the state that was saved or from another line. Returns how many."""
    donor = max(done, key=line.shared, default=None)
    have = line.shared(donor) if donor is not None else 0
    room = not have or book.used + have <= cells  # a state that is loaded shares nothing
    if line.saved is not None and len(line.saved[0]) > have and room:
        ask(wire.Load(line.number, line.saved[1]))
        if have:
            _part(line, have, waiting, book)
        return len(line.saved[0])
    if donor is not None and have:
        ask(wire.Copy(donor.number, [line.number], 0, have))
    return have


def _part(line: Line, have: int, waiting: list[Line], book: Book) -> None:
    """What was loaded shares nothing with the lines that are done: cells of its own, shared by those forked from it."""
    own = [Cell(cell.token, cell.position, line) for cell in line.cells]
    for each, count in [(each, each.shared(line)) for each in waiting] + [(line, len(own))]:
        if count > have:
            rest, saved = each.cells[count:], each.saved
            book.drop(each, 0, len(each.cells))
            book.take(each, own[:count] + rest)
            each.saved = (each.cells[: len(saved[0])], saved[1]) if saved else None


def _computed(line: Line, start: int, ask: Ask, chunk: int) -> int:
    tokens = [cell.token for cell in line.cells[start:]]
    for begin in range(0, len(tokens), chunk):
        feed(line, start + begin, tokens[begin : begin + chunk], ask)
    return len(tokens)


def _woven(lines: list[Line], done: list[Line], ask: Ask, chunk: int) -> int:
    """Row by row: each cell in its home, then in the others that have it. What plain lines have, too, is copied."""
    holders: dict[int, list[Line]] = {}
    every: dict[int, Cell] = {}
    for line in lines:
        donor = max(done, key=line.shared, default=None)
        have = line.shared(donor) if donor is not None else 0
        if donor is not None and have:
            ask(wire.Copy(donor.number, [line.number], 0, have))
        for cell in line.cells[have:]:
            holders.setdefault(id(cell), []).append(line)
            every[id(cell)] = cell
    for run in _runs(list(every.values()), holders, chunk):
        homes = [cell.home if cell.home in holders[id(cell)] else holders[id(cell)][0] for cell in run]
        first, last = run[0].position, run[-1].position
        if first == last and len({home.number for home in homes}) < len(run):
            raise ModelCrashed("the engine died, and a stream whose rows others see was closed: begin the streams anew")
        if first == last:
            for cell, home in zip(run, homes, strict=True):
                feed(home, first, [cell.token], ask)
        else:
            feed(homes[0], first, [cell.token for cell in run], ask)
            homes, run = homes[:1], run[:1]
        for cell, home in zip(run, homes, strict=True):
            others = [line.number for line in holders[id(cell)] if line is not home]
            if others and first == last:
                ask(wire.Publish(home.number, first, others))
            elif others:
                ask(wire.Copy(home.number, others, first, last + 1))
    return len(every)


def _runs(cells: list[Cell], holders: dict[int, list[Line]], chunk: int) -> Iterator[list[Cell]]:
    """The cells row by row; rows of one cell that the same lines have (a prefix) together."""
    run: list[Cell] = []
    for _, group in groupby(sorted(cells, key=lambda cell: cell.position), key=lambda cell: cell.position):
        row = list(group)
        alike = run and len(row) == 1 and holders[id(row[0])] == holders[id(run[0])] and len(run) < chunk
        if run and not alike:
            yield run
            run = []
        if len(row) > 1:
            yield row
        else:
            run += row
    if run:
        yield run


def feed(line: Line, start: int, tokens: list[int], ask: Ask) -> None:
    """Compute cells, and hear nothing of them."""
    ask(wire.Step([wire.Part(line.number, start, tokens, "none", None, None, 0, False)]))
