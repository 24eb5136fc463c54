"""Time travel: a new run with the part of a history that a fork keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from weft.core.codec import decode, encode, encode_args
from weft.core.errors import BadInput
from weft.core.record import AnyRecord, Aside, Blob, End, Fork, Outcome, Started
from weft.core.rename import Names
from weft.core.workflow import find_workflow
from weft.runtime.beginning import beginning
from weft.runtime.handle import Run
from weft.runtime.policy import Policy
from weft.runtime.process import Process
from weft.store.base import ProcessRow

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime


async def fork(
    runtime: Runtime, id: str, at: int, input: tuple[tuple[Any, ...], dict[str, Any]] | None, value: Any,
    policy: Policy | None,
) -> Run[Any]:  # fmt: skip
    """See `Runtime.fork`."""
    origin = await runtime.row(id)
    journal = runtime.journal
    await journal.barrier()
    workflow = find_workflow(origin.workflow)
    if input is not None:
        workflow.bind(*input)
    given = encode_args(*input, workflow.name) if input else (await runtime.recovery.opened(origin)).input
    given = journal.clean(given)
    image = runtime.rights.of_fork(origin.id, await runtime.rights.image(origin.image), policy)
    row = runtime.starting.new_row(workflow, given, image=image)
    row.started, row.forked, row.key, row.queue = origin.started, f"{id}@{at}", None, None
    records = forked(
        origin, await runtime.recovery.records(id), at, checked=input is None, value=value, now=runtime.clock()
    )
    records = [await _inherited(runtime, record, origin.id, row.id, policy) for record in records]
    journal.opened(row)
    for number, record in enumerate(records):
        journal.append(row.id, number, record)
    journal.batch.references |= {(row.id, blob.hash) for blob in _blobs(records)}
    begin = beginning(row, records)
    if not begin.number:
        begin = begin._replace(input=given)
    elif isinstance(begin.input, Blob):
        begin = begin._replace(input=await runtime.store.payload(begin.input.hash))
    runtime.starting.enter(Process(runtime, row, begin, len(records)), None)
    await journal.barrier()
    return Run(runtime, row.id)


async def _inherited(
    runtime: Runtime, record: AnyRecord, origin: str, process: str, policy: Policy | None
) -> AnyRecord:
    """The record as a fork has it: where its origin went on as another program, with the rights of a fork."""
    if type(record) is not Outcome or record.kind != "exec" or not record.ok:
        return record
    hash, holder = decode(record.value)  # type: ignore[arg-type]
    image = await runtime.rights.image(hash, carried=True)
    carried = runtime.rights.carry(process, runtime.rights.forked(holder, image, policy))
    return replace(record, value=encode((carried, Names({origin: process}).exactly(holder))))


def _blobs(records: Sequence[AnyRecord]) -> list[Blob]:
    fields = (getattr(record, name, None) for record in records for name in ("args", "value", "error"))
    return [field for field in fields if isinstance(field, Blob)]


def forked(
    origin: ProcessRow, records: list[AnyRecord], at: int, *, checked: bool, value: Any, now: float
) -> list[AnyRecord]:
    """All that reached the body before the outcome of effect `at`, then a Fork record, then `value` if given."""
    kept: list[AnyRecord] = []
    chosen: Outcome | Started | None = None
    highest = 0
    for record in records:
        if isinstance(record, Outcome | Started):
            highest = max(highest, record.effect)
            if record.effect == at:
                chosen = record
                if isinstance(record, Outcome):
                    break
                continue
        if isinstance(record, End):
            break
        if not isinstance(record, Aside):
            kept.append(record)
    if at < 1 or (chosen is None and at > highest + 1):
        raise BadInput(f"run {origin.id} has no effect {at}: it has {highest}; `weft show {origin.id}` numbers them")
    if value is not ... and chosen is None:
        raise BadInput(f"effect {at} of run {origin.id} was never made, so its outcome can't be replaced")
    kept.append(Fork(now, origin.id, checked, at if value is not ... else 0))
    if value is not ... and chosen is not None:
        kept.append(
            Outcome(
                max(now, chosen.at),
                chosen.effect,
                chosen.kind,
                chosen.name,
                chosen.place,
                chosen.args,
                encode(value),
                role=chosen.role,
                issued=chosen.issued,
                line=chosen.line,
                after=chosen.after,
                begun=chosen.begun,
            )
        )
    return kept
