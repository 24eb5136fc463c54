"""Who goes first and what stays: the policies of `scheduling`, each shared by the engine and the simulator.

`Fcfs` is what servers do: requests in order of arrival, what is idle is evicted when room is needed. `ByProgram` serves
programs in order of their first request. `Fixed`, `Continuum` and `Oracle` also *pin* what a program leaves behind
while it waits for a tool: for a fixed time; for the time that pays by past durations of that tool (Continuum, arXiv
2511.02230); for exactly as long as the tool will take, if that pays, which only a simulator can know.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from weft.model.engine.turns import Turn

    Order = tuple[float, ...]

COLD = 100
"""With at most so many durations, of a tool or of all, a history says nothing yet."""
WINDOW = 100
"""Over how many delays the mean is taken."""
KEPT = 1000
"""How many durations of a tool are remembered."""


class Fcfs:
    """First come, first served; nothing is pinned. Also the base of the others: what a policy decides and is told."""

    name = "fcfs"

    def order(self, turn: Turn, held: bool) -> Order:
        """Where a waiting turn stands: the smallest goes first. `held`: what its program left behind is pinned."""
        return (turn.arrived,)

    def keep(self, program: str, tool: str, cells: int) -> float:
        """For how many seconds to pin the `cells` of a program that now waits for `tool`."""
        return 0.0

    def preempted(self, running: list[Turn]) -> Turn:
        """Which of the running turns gives way when they do not fit any more."""
        return max(running, key=lambda turn: (-turn.priority, turn.arrived))

    def took(self, tool: str, seconds: float) -> None:
        """A program came back from `tool` after so long."""

    def delayed(self, seconds: float) -> None:
        """A turn whose program had been evicted waited so long."""

    def over(self, turns: int) -> None:
        """A program ended after so many turns."""

    def foresee(self, program: str, seconds: float) -> None:
        """What only a simulator can tell: how long the tool will take that a program is about to wait for."""


class ByProgram(Fcfs):
    """Programs in order of their first request, those first whose cells are pinned; nothing is pinned by itself."""

    name = "program"

    def order(self, turn: Turn, held: bool) -> Order:
        return (not held, turn.entered, turn.arrived)

    def preempted(self, running: list[Turn]) -> Turn:
        """The program that came last, unless it is in its last turn."""
        return max(running, key=lambda turn: (-turn.priority, not turn.last, turn.entered, turn.arrived))


class Fixed(ByProgram):
    """The same seconds for every tool."""

    name = "fixed"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def keep(self, program: str, tool: str, cells: int) -> float:
        return self.seconds


class Reload(msgspec.Struct, frozen=True):
    """What it costs to have evicted: seconds to compute n tokens again (or to load them), a + b n + c n²."""

    a: float = 0.0
    b: float = 0.0
    c: float = 0.0

    def __call__(self, cells: int) -> float:
        return self.a + self.b * cells + self.c * cells * cells

    @classmethod
    def fitted(cls, measured: Iterable[tuple[int, float]]) -> Reload:
        """By least squares, from measured (tokens, seconds); a straight line from two sizes, through 0 from one."""
        import numpy

        points = sorted(measured)
        degree = min(2, len({tokens for tokens, _ in points}) - 1)
        if degree < 1:
            return cls(b=points[0][1] / max(1, points[0][0])) if points else cls()
        fit = numpy.polyfit([tokens for tokens, _ in points], [seconds for _, seconds in points], degree)
        return cls(*(float(each) for each in reversed(fit)))


class Continuum(ByProgram):
    """Pins for the time that is expected to pay: the τ that maximises P(τ)·(T·η + reload) - τ.

    P is the share of the tool's past durations that were at most τ; T the mean delay of turns whose programs had been
    evicted; η how surely a program that has had many turns has few left, -corr(turns so far, turns left) over programs
    that ended; reload what computing the cells again takes. All of it in seconds.
    """

    name = "continuum"

    def __init__(self, reload: Callable[[int], float], cold: int = COLD) -> None:
        self.reload = reload
        self.cold = cold
        self._all = _Durations()
        self._tools: dict[str, _Durations] = {}
        self._delays: deque[float] = deque(maxlen=WINDOW)
        self._moments = _Moments()

    def took(self, tool: str, seconds: float) -> None:
        self._all.add(seconds)
        self._tools.setdefault(tool, _Durations()).add(seconds)

    def delayed(self, seconds: float) -> None:
        self._delays.append(seconds)

    def over(self, turns: int) -> None:
        for sofar in range(1, turns + 1):
            self._moments.add(sofar, turns - sofar)

    @property
    def memoryfulness(self) -> float:
        """η; 1 until programs have ended whose turns tell otherwise."""
        correlation = self._moments.correlation()
        return 1.0 if correlation is None else -correlation

    def benefit(self, cells: int) -> float:
        """The seconds that a hit saves."""
        delay = sum(self._delays) / len(self._delays) if self._delays else 0.0
        return max(0.0, delay * self.memoryfulness + self.reload(cells))

    def keep(self, program: str, tool: str, cells: int) -> float:
        benefit = self.benefit(cells)
        if len(self._all) <= self.cold:  # nothing known: durations as of an exponential of mean 1 s
            return max(0.0, math.log(benefit)) if benefit > 0 else 0.0
        known = self._tools.get(tool)
        return best_time(known.ordered if known is not None and len(known) > self.cold else self._all.ordered, benefit)


class Oracle(Continuum):
    """Pins for as long as the tool will really take, if a hit saves more than that."""

    name = "oracle"

    def __init__(self, reload: Callable[[int], float]) -> None:
        super().__init__(reload)
        self._ahead: dict[str, float] = {}

    def foresee(self, program: str, seconds: float) -> None:
        self._ahead[program] = seconds

    def keep(self, program: str, tool: str, cells: int) -> float:
        seconds = self._ahead.get(program, math.inf)
        return math.nextafter(seconds, math.inf) if seconds < self.benefit(cells) else 0.0


def best_time(ordered: list[float], benefit: float) -> float:
    """The smallest τ, 0 or one of the ascending durations, that maximises (share of durations <= τ)·benefit - τ."""
    best, most = 0.0, benefit * bisect_right(ordered, 0.0) / len(ordered) if ordered else 0.0
    for number, seconds in enumerate(ordered, 1):
        if number < len(ordered) and ordered[number] == seconds:
            continue
        gain = number / len(ordered) * benefit - seconds
        if gain > most:
            best, most = seconds, gain
    return best


class _Durations:
    """The latest durations, in order of time and in order of size."""

    def __init__(self) -> None:
        self.ordered: list[float] = []
        self._latest: deque[float] = deque()

    def __len__(self) -> int:
        return len(self.ordered)

    def add(self, seconds: float) -> None:
        insort(self.ordered, seconds)
        self._latest.append(seconds)
        if len(self._latest) > KEPT:
            self.ordered.remove(self._latest.popleft())


class _Moments:
    """Enough of pairs of numbers for their correlation."""

    def __init__(self) -> None:
        self.count = self.x = self.y = self.xx = self.yy = self.xy = 0.0

    def add(self, x: float, y: float) -> None:
        self.count += 1
        self.x, self.y = self.x + x, self.y + y
        self.xx, self.yy, self.xy = self.xx + x * x, self.yy + y * y, self.xy + x * y

    def correlation(self) -> float | None:
        """None where it is not defined."""
        across = (self.count * self.xx - self.x**2) * (self.count * self.yy - self.y**2)
        return (self.count * self.xy - self.x * self.y) / math.sqrt(across) if across > 0 else None
