"""What a process writes into its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.core.label import Label
from weft.core.record import AnyRecord, Outcome, Started, Value
from weft.core.resources import Usage
from weft.runtime.loop import NOWHERE, Line
from weft.runtime.pending import Pending
from weft.store.base import ProcessRow

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime


class Writing:
    """`clock`: the body's time, which never goes back. `length`: how many records the journal has."""

    def __init__(self, runtime: Runtime, row: ProcessRow, length: int) -> None:
        self.runtime = runtime
        self.row = row
        self.id = row.id
        self.clock = row.started
        self.length = length

    def record(
        self, number: int, kind: str, name: str, place: str, args: bytes, value: Value, ok: bool,
        started: float = 0.0, attempts: int = 1, by: tuple[int, ...] = (), label: Label | None = None,
        impact: str = "",
        turn: tuple[int, int] = (0, 0), usage: Usage | None = None, role: str = "", issued: float = 0.0,
        line: Line = NOWHERE, spent: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        given = self.runtime.journal.value(self.id, args)
        if self.row.strikes:
            self.row.strikes = 0  # it gets on
            self.runtime.put(self.row)
        self.runtime.counters.effects += 1
        record = Outcome(
            self.tick(),
            number,
            kind,
            name,
            place,
            given,
            value,
            ok,
            started,
            attempts,
            by,
            label,
            impact,
            *turn,
            usage,
            role,
            issued,
            line[0],
            line[1],
            line[2],
            spent,
        )
        self.append(record)

    def append(self, record: AnyRecord) -> None:
        self.runtime.append(self, record)

    def note(self, pending: Pending, *, intent: bool) -> None:
        """Write down that an effect has been started."""
        pending.noted = True
        args = self.runtime.journal.value(self.id, pending.args)
        # Not part of the order of deliveries: the body's clock stands still.
        self.append(
            Started(
                self.runtime.clock(), pending.number, pending.kind, pending.name, pending.place, args, intent,
                pending.impact, pending.role, pending.issued, *pending.line,
            )
        )  # fmt: skip

    def tick(self) -> float:
        """Let the body's clock follow the host's, never backwards."""
        now = self.runtime.clock()
        if now > self.clock:
            self.clock = now
        return self.clock
