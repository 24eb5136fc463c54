"""Turns of programs, and the words in which a scheduler says what to do with them.

A program makes one turn after another; what it leaves is held in cells meanwhile. A `Plan` is what a scheduler
(`weft.model.engine.scheduling`) decides for one step of the engine, `Counts` what came of all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(eq=False, slots=True)
class Turn:
    """One request. A token is *known* once it is in the prompt or drawn, and *fed* once it is in a cell."""

    program: str
    prompt: int
    """Its tokens."""
    common: int = 0
    """How many of them, from the start, are those that the program's earlier turns left."""
    most: int = 1
    """How many tokens it may draw."""
    priority: int = 0
    """Larger goes first."""
    last: bool = False
    """The program will make no turn after it."""
    arrived: float = 0.0
    entered: float = 0.0
    """When its program made its first turn."""
    first: float = math.nan
    """When it had drawn its first token."""
    queued: float = 0.0
    """Since when it waits: its arrival, or when it was preempted."""
    fed: int = 0
    drawn: int = 0
    reused: int = 0
    """How many tokens it found in cells."""
    admitted: bool = False
    """It has run, though it may have been preempted since."""

    @property
    def pending(self) -> int:
        return self.prompt + self.drawn - self.fed

    @property
    def target(self) -> int:
        """The cells that it has or is about to fill, with the next token."""
        return max(self.fed, self.prompt + self.drawn) + 1


@dataclass(eq=False, slots=True)
class Held:
    """What a program left, while it makes no turn."""

    cells: int
    tool: str
    since: float
    until: float
    """Pinned up to then."""


class Evict(NamedTuple):
    """Give the cells of an idle program back; `store`: save them first."""

    program: str
    store: bool


class Preempt(NamedTuple):
    """Stop a turn, and give its cells back (`store`: save them first); it will be admitted again."""

    turn: Turn
    store: bool


class Admit(NamedTuple):
    """Begin a turn with the first `reuse` cells that its program holds (`stored`: load them first), or, if there is a
    `donor`, that this other program holds; and no others."""

    turn: Turn
    reuse: int
    stored: bool
    donor: str = ""


class Alike(NamedTuple):
    """Another program that begins as a turn's prompt does, and with how many of the same tokens."""

    program: str
    cells: int
    soon: bool = False
    """Not all of them are in cells yet, but it reads them now."""


class Plan(NamedTuple):
    """What to do before the next step, in order; then how many tokens each turn feeds in it."""

    acts: list[Evict | Preempt | Admit]
    feeds: list[tuple[Turn, int]]


@dataclass
class Counts:
    """What has happened, in tokens and turns."""

    turns: int = 0
    """Admitted for the first time."""
    prompted: int = 0
    """Tokens of their prompts."""
    reused: int = 0
    """Of these, found in cells."""
    reencoded: int = 0
    """Tokens computed again that had been in cells before: what evictions and preemptions cost."""
    evicted: int = 0
    preempted: int = 0
    stored: int = 0
    loaded: int = 0
    unpinned: int = 0
    """Pins that gave way, for nothing else could."""
    starved: int = 0
    """Turns that went ahead because they had waited longer than `patience`."""

    @property
    def hits(self) -> float:
        """The share of known tokens that were found in cells."""
        known = self.reused + self.reencoded
        return self.reused / known if known else 0.0


@dataclass(eq=False, slots=True)
class Program:
    """What is known of a program between its turns."""

    entered: float
    turns: int = 0
    left: int = 0
    """How many tokens it had in cells at most, after its last turn or preemption."""
    stored: int = 0
    used: float = 0.0
    """When it last ran."""
    away: tuple[str, float] | None = None
    """The tool that it waits for, and since when."""
