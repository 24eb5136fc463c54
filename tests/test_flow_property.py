"""Random programs of steps, children, letters, events and branches, against an oracle.

The oracle (`Model`) knows the content of every value and what was mixed into it. Held against it: each mark and each
refusal; that marks only grow, and are the same on replay; that nothing made of a secret reaches a place that is not
cleared for it. And whatever the secrets are, public places are told the same (non-interference).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.errors import ReleaseNeeded
from weft.core.label import PUBLIC, Label, join
from weft.core.record import Outcome
from weft.core.sealed import Labelled
from weft.tool import files

PROGRAMS = 25
PLACES = {
    "public": PUBLIC,
    "inner": Label("internal"),
    "acme": Label("confidential", ["acme"]),
    "bolt": Label("confidential", ["bolt"]),
    "vault": Label("secret"),
}
"""Folders, and what lies in them carries."""

told: list[tuple[str, str]] = []
"""What reached which place."""


@weft.step(needs="read:{place}/data")
def bring(place: str) -> str:
    return (Path(place) / "data").read_text()


@weft.step
def bring_unsaid(place: str) -> str:
    return (Path(place) / "data").read_text()


@weft.step
async def mix(one: str, other: str) -> str:
    return f"({one}{other})"


@weft.step(needs="write:{place}/out")
def tell(place: str, value: str) -> str:
    (Path(place) / "out").write_text(value)
    told.append((place, value))
    return "told"


@weft.step
def carry_over(source: str, target: str, value: str) -> str:
    """Reads and writes without a word."""
    text = (Path(source) / "data").read_text() + value
    (Path(target) / "out").write_text(text)
    told.append((target, text))
    return "told"


@weft.step(needs=("read:{source}/data", "write:{target}/out"))
def carry_said(source: str, target: str, value: str) -> str:
    return carry_over.fn(source, target, value)


letters, gate = weft.Mailbox("letters"), weft.Mailbox("gate")
Op = list[Any]


# --- programs -------------------------------------------------------------------------------------------------------


def programs(draw: random.Random, depth: int = 0, branched: bool = False) -> list[Op]:
    """A list of operations on two slots, `a` and `b`."""
    return [_op(draw, depth, branched) for _ in range(draw.randint(2, 9 if depth == 0 else 5))]


def _op(draw: random.Random, depth: int, branched: bool) -> Op:
    slot, other = draw.sample(["a", "b"], 2)
    place = lambda: draw.choice([*PLACES, "public", "public"])  # noqa: E731
    kinds = ["bring", "bring", "bring_unsaid", "fetch", "mix", "join", "open", "tell", "tell", "tell", "swap"]
    kinds += ["carry", "carry_said"]
    if depth < 2:
        kinds += ["child", "child", "branch", *(() if branched else ["heard"])]
    if not branched:  # that nothing was said is not followed
        kinds += ["letter", "event"]
    sealed = draw.random() < 0.5
    match draw.choice(kinds):
        case "bring" | "bring_unsaid" | "fetch" as kind:
            return [kind, slot, place(), sealed]
        case "mix":
            return ["mix", slot, other, sealed]
        case "tell":
            return ["tell", slot, place(), sealed]
        case "carry" | "carry_said" as kind:
            return [kind, slot, place(), place()]
        case "heard":
            return ["heard", slot, programs(draw, depth + 1)]
        case "child":
            return ["child", slot, programs(draw, depth + 1, branched), sealed]
        case "branch":
            return ["branch", slot, programs(draw, depth + 1, True), programs(draw, depth + 1, True)]
        case kind:
            return [kind, slot, other]


@weft.workflow
async def interpret(ops: list[Op], a: Any = "", b: Any = "") -> list[Any]:
    """[value of slot a, what came of each operation]."""
    slots, seen = {"a": a, "b": b}, []
    async for one in _interpreted(ops, slots):
        seen.append([*one, str(weft.current().mark)])
    return [slots["a"], seen]


@weft.workflow
async def gated(name: str, ops: list[Op]) -> list[Any]:
    """The same, and then waits for a letter: until then it leaves memory."""
    slots, seen = {"a": "", "b": ""}, []
    async for one in _interpreted(ops, slots):
        seen.append([*one, str(weft.current().mark)])
    await weft.publish(f"at the gate: {name}", seen)
    await gate.receive()
    return [*seen, str(weft.current().mark)]


@weft.workflow
async def says(key: str, ops: list[Op], a: Any, b: Any) -> None:
    """A process of its own, of which one hears by an event only."""
    slots = {"a": a, "b": b}
    async for _ in _interpreted(ops, slots):
        pass
    await weft.publish(key, slots["a"])


@weft.workflow
async def at_the_gate(name: str) -> list[Any]:
    seen: list[Any] = await weft.wait_for(f"at the gate: {name}")
    return seen


async def _interpreted(ops: list[Op], slots: dict[str, Any]) -> Any:
    for kind, slot, *rest in ops:
        try:
            match kind, rest:
                case "bring" | "bring_unsaid" | "fetch", [place, sealed]:
                    step: Any = {"bring": bring, "bring_unsaid": bring_unsaid, "fetch": files.read_text}[kind]
                    where = f"{place}/data" if kind == "fetch" else place
                    slots[slot] = await (step.sealed if sealed else step)(where)
                case "mix", [other, sealed]:
                    slots[slot] = await (mix.sealed if sealed else mix)(slots[slot], slots[other])
                case "join", [other]:
                    if not isinstance(slots[slot], Labelled) and not isinstance(slots[other], Labelled):
                        slots[slot] += slots[other]
                case "open", _:
                    if isinstance(slots[slot], Labelled):
                        slots[slot] = slots[slot].open()
                case "swap", [other]:
                    slots[slot], slots[other] = slots[other], slots[slot]
                case "tell", [place, sealed]:
                    await (tell.sealed if sealed else tell)(place, slots[slot])
                case "carry" | "carry_said", [source, target]:
                    await (carry_over if kind == "carry" else carry_said)(source, target, slots[slot])
                case "heard", [inner]:
                    key = f"heard {weft.random()}"
                    await says.sealed(key, inner, slots["a"], slots["b"])
                    slots[slot] = await weft.wait_for(key)
                case "child", [inner, sealed]:
                    result = await (interpret.sealed if sealed else interpret)(inner, slots["a"], slots["b"])
                    if not isinstance(result, Labelled):
                        slots[slot] = result[0]
                        for one in result[1]:
                            yield ["in a child", *one]
                case "branch", [yes, no]:
                    taken = yes if "1" in str(slots[slot]) else no
                    async for one in _interpreted(taken, slots):
                        yield one
                case "letter", [other]:
                    await letters.send(weft.current().id, slots[other])
                    slots[slot] = await letters.receive()
                case "event", [other]:
                    key = f"event {weft.random()}"
                    await weft.publish(key, slots[other])
                    slots[slot] = await weft.wait_for(key)
            yield [kind, "done"]
        except ReleaseNeeded as error:
            yield [kind, f"{error.label} -> {Path(error.resource).parent.name}"]


# --- the oracle -----------------------------------------------------------------------------------------------------


class Value:
    """What a slot holds: its content; closed, its label; and exactly what was mixed into it."""

    def __init__(self, content: str, closed: Label | None, taint: frozenset[str]) -> None:
        self.content = content
        self.closed = closed
        self.taint = taint


class Model:
    """A process, as the rule says. `told`: what reaches which place, with its exact taint."""

    def __init__(self, data: dict[str, str], mark: Label, told: list[tuple[str, str, frozenset[str]]]) -> None:
        self.data = data
        self.mark = mark
        self.told = told

    def run(self, ops: list[Op], slots: dict[str, Value]) -> list[Any]:
        return [[*one, str(self.mark)] for one in self.each(ops, slots)]

    def each(self, ops: list[Op], slots: dict[str, Value]) -> Iterator[list[Any]]:
        for kind, slot, *rest in ops:
            said = "done"
            match kind, rest:
                case "bring" | "bring_unsaid" | "fetch", [place, sealed]:
                    label = self.mark | PLACES[place]
                    slots[slot] = self.outcome(self.data[place], label, frozenset([place]), sealed)
                case "mix", [other, sealed]:
                    one, two = slots[slot], slots[other]
                    label = join([self.mark, one.closed or PUBLIC, two.closed or PUBLIC])
                    slots[slot] = self.outcome(f"({one.content}{two.content})", label, one.taint | two.taint, sealed)
                case "join", [other]:
                    one, two = slots[slot], slots[other]
                    if one.closed is None and two.closed is None:
                        slots[slot] = Value(one.content + two.content, None, one.taint | two.taint)
                case "open", _:
                    self.mark |= slots[slot].closed or PUBLIC
                    slots[slot] = Value(slots[slot].content, None, slots[slot].taint)
                case "swap", [other]:
                    slots[slot], slots[other] = slots[other], slots[slot]
                case "tell", [place, sealed]:
                    said = self.tell(place, slots[slot], sealed)
                case "carry" | "carry_said", [source, target]:
                    said = self.carry(source, target, slots[slot], before=kind == "carry_said")
                case "heard", [inner]:
                    child, inside = Model(self.data, self.mark, self.told), dict(slots)
                    child.run(inner, inside)
                    self.mark |= child.mark
                    slots[slot] = inside["a"]
                case "child", [inner, sealed]:
                    child, inside = Model(self.data, self.mark, self.told), dict(slots)
                    seen = child.run(inner, inside)
                    if not sealed:
                        self.mark |= child.mark
                        slots[slot] = inside["a"]
                        yield from (["in a child", *one] for one in seen)
                case "branch", [yes, no]:
                    closed = slots[slot].closed is not None
                    yield from self.each(yes if not closed and "1" in slots[slot].content else no, slots)
                case "letter" | "event", [other]:
                    slots[slot] = slots[other]
            yield [kind, said]

    def outcome(self, content: str, label: Label, taint: frozenset[str], sealed: bool) -> Value:
        if sealed:
            return Value(content, label, taint)
        self.mark |= label
        return Value(content, None, taint)

    def tell(self, place: str, value: Value, sealed: bool) -> str:
        label = self.mark | (value.closed or PUBLIC)
        if not label.flows_to(PLACES[place]):
            return f"{label} -> {place}"
        self.told.append((place, value.content, value.taint))
        if not sealed:
            self.mark |= label
        return "done"

    def carry(self, source: str, target: str, value: Value, before: bool) -> str:
        """`before`: whether it is refused before it has read anything."""
        label = join([self.mark, value.closed or PUBLIC, PLACES[source]])
        if not before or label.flows_to(PLACES[target]):
            self.mark |= label
        if not label.flows_to(PLACES[target]):
            return f"{label} -> {target}"
        self.told.append((target, self.data[source] + value.content, value.taint | {source}))
        return "done"


# --- held against each other ----------------------------------------------------------------------------------------

POLICY = weft.Policy(
    base="all",
    label=(
        "internal file:./inner", "confidential tenant=acme file:./acme", "confidential tenant=bolt file:./bolt",
        "secret file:./vault",
    ),
)  # fmt: skip


def lay_out(bits: int) -> dict[str, str]:
    """Something in each place; what is no secret is always the same."""
    data = {place: f"<{place}{bits if label != PUBLIC else ''}>" for place, label in PLACES.items()}
    for place, text in data.items():
        Path(place).mkdir(exist_ok=True)
        (Path(place) / "data").write_text(text)
    return data


class Trial:
    """A program and what came of it, with some secrets."""

    def __init__(self, name: str, ops: list[Op], bits: int) -> None:
        self.name = f"{name} {bits}"
        self.ops = ops
        self.bits = bits

    async def begin(self, runtime: weft.Runtime) -> None:
        """Run it up to its gate."""
        self.data = lay_out(self.bits)
        told.clear()
        self.run = await runtime.start(gated, self.name, self.ops)
        self.seen = await runtime.run(at_the_gate, self.name)
        self.told = list(told)

    def expected(self) -> list[Any]:
        """What the oracle says, which is held against what was told."""
        reached: list[tuple[str, str, frozenset[str]]] = []
        model = Model(self.data, PUBLIC, reached)
        nothing = Value("", None, frozenset())
        seen = model.run(self.ops, {"a": nothing, "b": nothing})
        assert self.told == [(place, content) for place, content, _ in reached], self.ops
        for place, _, taint in reached:
            assert all(PLACES[source].flows_to(PLACES[place]) for source in taint), self.ops
        return [*seen, str(model.mark)]

    async def end(self, runtime: weft.Runtime) -> None:
        """Bring it back by replay, and compare."""
        await runtime.send(self.run.id, "gate", None)
        told.clear()
        expected = self.expected()
        assert self.seen == expected[:-1], (self.name, self.ops)
        assert await self.run == expected, (self.name, self.ops)
        assert not told, "a replay does nothing"
        records = await runtime.recovery.records(self.run.id)
        marks = [record.label for record in records if isinstance(record, Outcome) and record.label is not None]
        for before, after in zip([PUBLIC, *marks], marks, strict=False):
            assert not after.flows_to(before), "what is written down is more than was carried before"


async def hold(runtime: weft.Runtime, seeds: range) -> None:
    trials = [Trial(str(seed), programs(random.Random(seed)), bits) for seed in seeds for bits in (0, 1)]
    for trial in trials:
        await trial.begin(runtime)
    for trial in trials:
        async with asyncio.timeout(30):
            while await trial.run.status() != "waiting":
                await asyncio.sleep(0.05)
    for trial in trials:
        await trial.end(runtime)
    for one, other in zip(trials[::2], trials[1::2], strict=True):
        public = [[text for place, text in trial.told if place == "public"] for trial in (one, other)]
        assert public[0] == public[1], one.ops


def test_random_programs(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEFT_POLICY", raising=False)

    async def main() -> None:
        async with weft.Runtime(store, durability="process", policy=POLICY) as runtime:
            await hold(runtime, range(PROGRAMS))

    asyncio.run(main())
