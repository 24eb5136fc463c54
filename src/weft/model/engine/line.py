"""The books of an engine: which cells each sequence has, in the order of their positions.

The child process only has numbers of sequences and positions; what they hold is known here, so that room is counted
exactly, a shared cell once, and all can be made again when the child has died.
"""

from __future__ import annotations

from collections.abc import Iterable


class Cell:
    """One token's keys and values. The same object stands in every line that shares it."""

    __slots__ = ("holders", "home", "position", "token")

    def __init__(self, token: int, position: int, home: Line) -> None:
        self.token = token
        self.position = position
        self.home = home
        """The line that it was computed in."""
        self.holders = 0


class Line:
    """The cells of one sequence, whose number in the child is `number`."""

    def __init__(self, number: int, label: str) -> None:
        self.number = number
        self.label = label
        self.cells: list[Cell] = []
        self.woven = False
        """Whether a row was published to it: then several of its cells may share a position."""
        self.saved: tuple[list[Cell], bytes] | None = None
        """The cells when its state was last saved or restored, and that state."""

    @property
    def length(self) -> int:
        """The position that the next token gets."""
        return self.cells[-1].position + 1 if self.cells else 0

    def index(self, position: int) -> int:
        """The index of the first cell at this position or after it."""
        low, high = 0, len(self.cells)
        while low < high:
            middle = (low + high) // 2
            if self.cells[middle].position < position:
                low = middle + 1
            else:
                high = middle
        return low

    def row(self, position: int) -> list[Cell]:
        """The cells at this position."""
        return self.cells[self.index(position) : self.index(position + 1)]

    def shared(self, other: Line) -> int:
        """With how many of the same cells both begin."""
        mine, theirs = self.cells, other.cells
        count = min(len(mine), len(theirs))
        if count and mine[count - 1] is theirs[count - 1] and not (self.woven or other.woven):
            return count  # in plain lines, who shares a cell shares all before it
        for n in range(count):
            if mine[n] is not theirs[n]:
                return n
        return count


class Book:
    """All lines of an engine, and how many cells are in use."""

    def __init__(self, sequences: int, unified: bool) -> None:
        self.unified = unified
        self.lines: dict[int, Line] = {}
        self._free = list(range(sequences))[::-1]
        self._used = 0

    @property
    def used(self) -> int:
        """Cells in use. Where each sequence has a buffer of its own, nothing is shared."""
        return self._used if self.unified else sum(len(line.cells) for line in self.lines.values())

    @property
    def full(self) -> bool:
        """Whether there is no number for a further line."""
        return not self._free

    def open(self, label: str) -> Line:
        line = Line(self._free.pop(), label)
        self.lines[line.number] = line
        return line

    def close(self, line: Line) -> None:
        self.drop(line, 0, len(line.cells))
        del self.lines[line.number]
        self._free.append(line.number)

    def append(self, line: Line, tokens: Iterable[int]) -> None:
        """New cells at the line's end."""
        start = line.length
        self.take(line, [Cell(token, start + n, line) for n, token in enumerate(tokens)])

    def take(self, line: Line, cells: list[Cell]) -> None:
        """Put cells at the line's end."""
        for cell in cells:
            self._used += not cell.holders
            cell.holders += 1
        line.cells += cells

    def weave(self, line: Line, cell: Cell) -> None:
        """Put in a cell of another line, after those at its position."""
        self._used += not cell.holders
        cell.holders += 1
        line.cells.insert(line.index(cell.position + 1), cell)
        line.woven = True

    def drop(self, line: Line, begin: int, end: int) -> None:
        """Take out the cells from index `begin` to before `end`."""
        for cell in line.cells[begin:end]:
            cell.holders -= 1
            self._used -= not cell.holders
        del line.cells[begin:end]
        if line.saved and [id(cell) for cell in line.saved[0][begin:]] != [
            id(cell) for cell in line.cells[begin : len(line.saved[0])]
        ]:
            line.saved = None
