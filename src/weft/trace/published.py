"""Histories from the records that the artefacts of arXiv 2606.17182 publish, so that their figures can be recounted.

One JSON record a line: `agent`, `read_set`, `read_values`, `read_time`, `write_set`, `write_values`, `write_time`;
those with provenance have `txn`, `preds` and `aborted`, the others `planned_tool`, `tools_visible_at_read`, and the
effects in the order of issue, `io`, and of taking effect, `co`, each a pair of cell and value. They do not tell the
registry at commit, so A2 can't be judged from them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from weft.core.errors import BadInput
from weft.trace.history import Call, Operation, Read, Time, Write, flaw

MARK = "read_set"
"""A field that tells these records from Weft's own."""

Effect = tuple[str, str]


class Record(msgspec.Struct, frozen=True):
    """One operation, as it is published."""

    agent: str
    read_set: list[str]
    read_values: dict[str, str]
    read_time: Time
    write_set: list[str]
    write_values: dict[str, str]
    write_time: Time
    txn: int | None = None
    preds: list[int] = []
    aborted: bool = False
    planned_tool: str | None = None
    tools_visible_at_read: list[str] = []
    io: list[Effect] = []
    co: list[Effect] = []

    def operation(self, number: int) -> Operation:
        """The same as an operation; `number` is its id where the record has none."""
        return Operation(
            str(number if self.txn is None else self.txn),
            self.agent,
            self.read_time,
            self.write_time,
            tuple(Read(cell, self.read_values.get(cell), self.read_time) for cell in self.read_set),
            tuple(Write(cell, self.write_values.get(cell)) for cell in self.write_set),
            self._calls(),
            tools=dict.fromkeys(self.tools_visible_at_read, ""),
            planned=() if self.planned_tool is None else (self.planned_tool,),
            predecessors=tuple(map(str, self.preds)),
            retracted=self.aborted,
        )

    def _calls(self) -> tuple[Call, ...]:
        """The n-th of several equal effects to be issued is the n-th to be done. Where co is no permutation, none
        is."""
        places: dict[Effect, list[int]] = {}
        for place, effect in enumerate(self.co):
            places.setdefault(effect, []).append(place)
        permutation = sorted(self.io) == sorted(self.co)
        return tuple(
            Call(effect[0], issue, places[effect].pop(0) if permutation else None)
            for issue, effect in enumerate(self.io)
        )


def read_published(path: str | Path) -> list[Operation]:
    """The operations of a file of such records. Raises BadInput with file and line."""
    decoder = msgspec.json.Decoder(Record)
    found: list[Operation] = []
    seen: set[str] = set()
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if line.strip():
            try:
                operation = decoder.decode(line).operation(number)
            except msgspec.DecodeError as error:
                raise BadInput(f"{path}:{number}: not a published record: {error}") from None
            what = flaw(operation) or ("there is another one of that txn" if operation.id in seen else None)
            if what is not None:
                raise BadInput(f"{path}:{number}: operation {operation.id!r} is impossible: {what}")
            seen.add(operation.id)
            found.append(operation)
    return found
