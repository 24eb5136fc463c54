"""Programs in which something can be made to go wrong: five real workflows, 23 kinds of faults.

The faults are planted in what the steps meet (the answers of services, of a scripted model, the rights, the machine),
never in the workflows, which are the same in every run. Clean runs are not all alike: plans, answers and times vary,
and a service fails now and then in a way that the program gets over. Times are simulated, so that no other program on
the machine is a fault; but for the two who share a memory, for what a store's thread does is not seen by that clock.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

import weft
from benchmarks.agents.clock import VirtualClock
from weft.core.ids import new_id
from weft.core.record import AnyRecord, Outcome, decode_records, encode_records
from weft.core.resources import Usage
from weft.store import Store
from weft.store.base import Batch, Segment
from weft.trace.explain import Finding

LATENCY = 0.004
"""Seconds that a service takes, about."""


class World:
    """What the steps meet: chance, and the fault that is planted, if any."""

    chance = random.Random(0)
    fault = ""
    tries = 0
    thinking = asyncio.Event()
    folder = ""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def _takes(much: float = 1.0) -> None:
    await World.sleep(LATENCY * much * World.chance.uniform(0.7, 1.5))


# --- an agent: a model's plan says which tools are called ------------------------------------------------------------


@weft.step(effect="pure")
async def plan(question: str) -> list[str]:
    await _takes()
    lookups = World.chance.randint(1, 3)
    calls = ["lookup"] * lookups + (["policy"] if World.chance.random() < 0.5 else []) + ["price", "reply"]
    match World.fault:
        case "loop":
            calls = ["lookup"] * 15 + calls
        case "unknown tool":
            calls.insert(-1, "wipe")
        case "dropped":
            calls.remove("price")
        case "swapped":
            calls.reverse()
    return calls


@weft.step(effect="pure")
async def lookup(number: int) -> dict[str, Any]:
    await _takes(60 if World.fault == "slow" else 1)
    found: dict[str, Any] = {"id": number, "state": "sent", "items": [{"sku": f"a{number}", "count": 1}]}
    if World.fault == "changed form":
        return {"error": "not in the index", "id": number}
    return found | ({"note": "gift"} if number % 3 == 0 else {})


@weft.step(effect="pure")
async def policy(number: int) -> list[str]:
    await _takes()
    return [f"rule {n}" for n in range(World.chance.randint(2, 4))]


@weft.step(effect="pure")
async def price(number: int) -> float:
    await _takes()
    return World.chance.uniform(10, 90) * (1000 if World.fault == "wrong amount" else 1)


@weft.step(effect="pure")
async def wipe(number: int) -> None:
    await _takes()


@weft.step
async def reply(number: int) -> str:
    await _takes()
    if World.fault == "failing tool":
        raise ConnectionError(f"the mail server 10.0.0.{number % 9} refused message {number}")
    return f"message {number} was sent in {World.chance.randint(2, 9)} ms"


@weft.workflow
async def support(number: int) -> str:
    tools: dict[str, Any] = {"lookup": lookup, "policy": policy, "price": price, "wipe": wipe, "reply": reply}
    said = ""
    for name in await plan(f"Where is order {number}?"):
        said = str(await tools[name](number))
    return said


# --- parallel work with a child, a file and a step that is tried again ----------------------------------------------


@weft.step(effect="pure")
async def compiled(unit: int) -> dict[str, int]:
    await _takes(60 if World.fault == "slow" and unit == 1 else 1)
    return {"unit": unit, "warnings": World.chance.randint(0, 3)}


@weft.step(effect="pure", retries=weft.Retry(attempts=4, delay=0.001))
async def tested(unit: int) -> str:
    await _takes()
    World.tries += 1
    if World.fault == "flaky" and World.tries < 4:
        raise TimeoutError(f"no answer of the test server for unit {unit}")
    if World.fault == "other words":
        return "the suite was skipped: no interpreter on this machine"
    return f"{World.chance.randint(10, 99)} tests passed in {World.chance.uniform(0.1, 2):.2f} s"


@weft.step(effect="pure")
async def target(number: int) -> str:
    return f"{World.folder}{'-of-others' if World.fault == 'refused' else ''}/package-{number}"


@weft.step(needs="write:{path}")
async def save(path: str) -> int:
    await _takes()
    return 1


@weft.step(effect="pure")
async def mirror(number: int) -> None:
    if World.chance.random() < 0.4:
        raise ConnectionError("the mirror is away")


@weft.workflow
async def package(number: int) -> int:
    with suppress(ConnectionError):
        await mirror(number)
    return await save(await target(number))


@weft.workflow
async def build(number: int) -> int:
    await asyncio.gather(*(compiled(unit) for unit in range(3)))
    await tested(number)
    return await package(number)


# --- two agents on one memory ---------------------------------------------------------------------------------------

sheet = weft.Memory("sheet", int, level="L0")


@weft.step(effect="pure")
async def think(amount: int) -> int:
    World.tries += 1
    World.thinking.set()
    if World.fault == "stale" and World.tries < 2:
        World.thinking.clear()
        await World.thinking.wait()  # until both have read it
    return amount + 1


@sheet.operation()
async def add(op: weft.Operation[int], name: str) -> int:
    amount = await op.read(name, 0)
    op.write(name, await think(amount))
    return amount


@weft.workflow
async def clerk(name: str) -> int:
    return await add(name)


@weft.workflow
async def ledger(number: int) -> int:
    """Two clerks; how much the second waits for the first, the world says."""
    first, second = await asyncio.gather(clerk("total"), later())
    return first + second


@weft.step(effect="pure")
async def pause() -> None:
    if World.fault != "stale":
        await World.thinking.wait()
        await asyncio.sleep(0.08)  # in which the first one's is written


async def later() -> int:
    await pause()
    return await clerk("total")


# --- a crew: children, and a judge who is seldom satisfied at once --------------------------------------------------


@weft.step(effect="pure")
async def split(topic: int) -> list[int]:
    await _takes()
    return [] if World.fault == "nothing to do" else [topic * 10 + at for at in range(World.chance.randint(2, 4))]


@weft.step(effect="pure")
async def fetch(page: int) -> dict[str, Any]:
    await _takes(80 if World.fault == "a slow page" and page % 10 == 1 else World.chance.choice((1, 1, 3)))
    if World.fault == "a page without text" and page % 10 == 0:
        return {"page": page, "text": None}
    return {"page": page, "text": f"page {page} has {World.chance.randint(3, 9)} parts"}


@weft.step(effect="pure")
async def digest(text: str) -> str:
    await _takes()
    return text.upper()


@weft.step(effect="pure")
async def judged(digests: list[str]) -> str:
    await _takes()
    World.tries += 1
    sure = World.chance.random() < 0.7 if World.fault != "never satisfied" else World.tries > 9
    return "fine" if sure else "once more"


@weft.step(effect="pure")
async def published(digests: list[str]) -> int:
    await _takes()
    return 0 if World.fault == "nobody got it" else 40_000 + World.chance.randint(-900, 900)


@weft.workflow
async def scout(page: int) -> str:
    found = await fetch(page)
    return await digest(found["text"].strip())


@weft.workflow
async def crew(topic: int) -> int:
    pages = await split(topic)
    digests = await asyncio.gather(*(scout(page) for page in pages))
    for _ in range(12):
        if await judged(list(digests)) == "fine":
            break
    return await published(list(digests))


# --- papers that come in: written last; no organ was changed after it ran --------------------------------------------


@weft.step(effect="pure")
async def received(batch: int) -> list[dict[str, Any]]:
    await _takes()
    count = 14 if World.fault == "a flood" else World.chance.randint(2, 4)
    return [{"id": batch * 10 + at, "scan": "x" * World.chance.randint(50, 150)} for at in range(count)]


@weft.step(effect="pure")
async def parsed(paper: dict[str, Any]) -> dict[str, Any]:
    await _takes()
    lines = [{"sum": World.chance.randint(1, 99)} for _ in range(World.chance.randint(1, 5))]
    return {"id": paper["id"], "lines": [] if World.fault == "no lines" else lines}


@weft.step(effect="pure")
async def checked(fields: dict[str, Any]) -> bool:
    await _takes()
    if World.fault == "the check breaks":
        raise ValueError(f"sum of paper {fields['id']} is no number")
    return World.fault != "the check says no" and World.chance.random() < 0.9


@weft.step(effect="pure")
async def flagged(paper: dict[str, Any]) -> None:
    await _takes()


@weft.step(effect="pure")
async def stored(count: int) -> int:
    await _takes(60 if World.fault == "a slow store" else 1)
    return count


@weft.workflow
async def intake(batch: int) -> int:
    papers = await received(batch)
    for paper in papers:
        if not await checked(await parsed(paper)):
            await flagged(paper)
    return await stored(len(papers))


LATE: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "a flood": (intake, ("answer", "count"), "received answered|was done"),
    "no lines": (intake, ("answer",), "parsed answered"),
    "the check breaks": (intake, ("failed",), "checked failed"),
    "the check says no": (intake, ("count", "departure", "answer"), "flagged|checked"),
    "a slow store": (intake, ("slow", "cause"), "stored took|stored/seconds"),
}


# --- running them ---------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    # the workflow it is planted in, kinds of findings that name it, and what must be in their words
    "slow": (support, ("slow", "cause"), "lookup took|lookup/seconds"),
    "loop": (support, ("count", "answer"), "lookup was done|plan answered"),
    "unknown tool": (support, ("departure", "said"), "at step:wipe|plan said .*'wipe'"),
    "dropped": (support, ("departure",), "at step:reply"),
    "swapped": (support, ("departure",), "at step:reply"),
    "changed form": (support, ("answer", "said"), "lookup answered|lookup said"),
    "wrong amount": (support, ("answer",), "price answered"),
    "failing tool": (support, ("failed",), "reply failed"),
    "flaky": (build, ("count",), "tested took"),
    "refused": (build, ("refused",), "it was refused file.write"),
    "other words": (build, ("said",), "tested said"),
    "stale": (ledger, ("stale",), "sheet/total"),
    "paused": (support, ("paused",), "lookup was paused"),
    "nothing to do": (crew, ("answer",), "split answered"),
    "a slow page": (crew, ("slow", "cause"), "fetch took|fetch/seconds"),
    "a page without text": (crew, ("answer",), "fetch answered"),
    "never satisfied": (crew, ("count", "departure"), "judged"),
    "nobody got it": (crew, ("answer",), "published answered"),
}


def names(found: Finding, kinds: Sequence[str], words: str) -> bool:
    """Whether a finding names a fault that is told so."""
    return found.kind in kinds and re.search(words, found.words) is not None


@asynccontextmanager
async def opened(folder: Path, seed: int) -> AsyncIterator[weft.Runtime]:
    """A runtime on `journal.db` in a folder, in simulated time."""
    clock = VirtualClock()
    World.folder, World.chance, World.sleep = str(folder), random.Random(seed), clock.sleep
    World.thinking = asyncio.Event()
    policy = weft.Policy(base="workspace", workspace=str(folder), allow=(f"write:{folder}", "model:script/*"))
    try:
        async with weft.Runtime(folder / "journal.db", durability="process", policy=policy) as runtime:
            runtime.clock = clock.time
            yield runtime
    finally:
        World.sleep = asyncio.sleep


async def run(runtime: weft.Runtime, program: Any, number: int, fault: str = "") -> str:
    """Run one of the workflows to its end; its id."""
    World.fault, World.tries = fault, 0
    World.thinking.clear()
    started = await runtime.start(program, number)
    with suppress(Exception):
        await started.result()
    World.fault = ""
    return str(started.id)


async def with_pause(store: Store, run: str) -> str:
    """A copy of a run in which its second effect was paused for 3 s of 3.1; its id. This one fault is written into the
    journal, for a machine without memory is no part of a benchmark."""
    row, id = await store.row(run), new_id()
    assert row is not None
    records: list[AnyRecord] = []
    for segment in await store.segments([run]):
        records += decode_records(segment.records)
    for at, record in enumerate(records):
        if type(record) is Outcome and record.effect == 2:
            records[at] = msgspec.structs.replace(record, usage=Usage(seconds=3.1, paused_seconds=3.0))
    copy = msgspec.structs.replace(row, id=id, key=None, owner=None, image=b"")
    done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    store.commit(Batch(rows={id: copy}, segments=[Segment(id, 0, encode_records(records))]), done.set_result)
    error = await done
    if error is not None:
        raise error
    return id
