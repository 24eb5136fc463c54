"""Shared memory as programs use it: operations, refusals, retries, merges, rights, labels, retraction, tools."""

from __future__ import annotations

import asyncio
import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest

import weft
from tests.programs import drive, parked
from weft.core.errors import (
    BadInput,
    Denied,
    MemoryConflict,
    NoObject,
    NoProcess,
    PhantomTool,
    ReleaseNeeded,
    UnknownType,
)
from weft.core.record import Outcome
from weft.trace.anomalies import check
from weft.trace.journal_history import history_of_runs


@dataclass
class Note:
    text: str
    score: int = 0


notes = weft.Memory("notes", Note)
numbers = weft.Memory("numbers", int)
anything = weft.Memory("anything")
scratch = weft.Memory("scratch", private=True)
go = weft.Mailbox("memory go", str)


@weft.step(effect="pure")
async def think(seconds: float = 0.01) -> None:
    await asyncio.sleep(seconds)


def run(store: str, workflow: Any, *args: Any) -> Any:
    return drive(store, lambda runtime: runtime.run(workflow, *args))


# --- reading and writing ------------------------------------------------------------------------------------------


@weft.workflow
async def keeps() -> list[Any]:
    seen: list[Any] = []
    async with notes.operation() as op:
        seen.append(await op.read("plan", None))
        with pytest.raises(NoObject, match="nothing is in notes/plan"):
            await op.read("plan")
        op.write("plan", Note("first"))
        seen.append(await op.read("plan"))  # what it wrote itself
        op.write("a/b", Note("deep", 2), links=("plan",))
    async with notes.operation() as op:
        seen += [await op.read("plan"), await op.version("plan"), await op.read("a/b")]
        op.delete("plan")
        seen.append(await op.read("plan", None))
    async with notes.operation() as op:
        seen += [await op.read("plan", None), await op.version("plan")]
    return seen


def test_what_is_written_is_there_for_whoever_comes_later(store: str) -> None:
    told = run(store, keeps)
    assert told == [None, Note("first"), Note("first"), 1, Note("deep", 2), None, None, 2]

    async def look() -> None:
        async with weft.Runtime(store) as runtime:
            (cell,) = (await runtime.store.look("notes", ["notes/a/b"])).objects
            assert (cell.version, cell.links) == (1, ("notes/plan",))
            assert [one.version for one in await runtime.store.versions("notes/plan")] == [2, 1]

    asyncio.run(look())


@weft.workflow
async def large(size: int) -> int:
    async with anything.operation() as op:
        op.write("large", "x" * size)
    async with anything.operation() as op:
        return len(await op.read("large"))


def test_a_large_value_lies_there_by_its_hash_and_outlives_its_writer(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(large, 100_000)
            assert await run == 100_000
            (operation, _) = await history_of_runs(runtime.store, [run.id])
            assert operation.writes[0].value.startswith("#")  # type: ignore[union-attr]
            await runtime.journal.barrier()
            assert await runtime.store.delete([run.id]) == 1
            assert len(await runtime.run(reads_one, "large")) == 100_000

    asyncio.run(main())


@weft.workflow
async def reads_one(name: str) -> Any:
    async with anything.operation() as op:
        return await op.read(name)


@weft.workflow
async def private(value: str) -> tuple[str, str]:
    async with scratch.operation() as op:
        before = await op.read("mine", "nothing")
        op.write("mine", value)
    async with scratch.operation() as op:
        return before, await op.read("mine")


def test_a_private_memory_is_each_process_s_own(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            assert await runtime.run(private, "one") == ("nothing", "one")
            assert await runtime.run(private, "two") == ("nothing", "two")

    asyncio.run(main())


# --- refusals -----------------------------------------------------------------------------------------------------


@numbers.operation()
async def add_one(op: weft.Operation[int]) -> int:
    had = await op.read("count", 0)
    await think()
    op.write("count", had + 1)
    return had + 1


@weft.workflow
async def adds(times: int) -> None:
    for _ in range(times):
        await add_one()


@weft.workflow
async def many_add(agents: int, times: int) -> int:
    async with asyncio.TaskGroup() as group:
        for _ in range(agents):
            group.create_task(adds(times))
        for _ in range(agents):
            group.create_task(add_one())  # in this process, too
    async with numbers.operation() as op:
        return await op.read("count")


def test_no_update_is_lost_and_nobody_starves(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(many_add, 4, 5)
            assert await run == 24
            ids = [row.id for row in await runtime.store.rows()]
            history = await history_of_runs(runtime.store, ids)
            assert len(history) == 25
            assert check(history, "L4") == []

    asyncio.run(main())


@weft.workflow
async def meddles(level: str, between: str, writes: list[str]) -> str:
    """Reads a and b; meanwhile another operation writes one of them."""
    try:
        async with anything.operation(level=level, agent="slow") as op:  # type: ignore[arg-type]
            await op.read("a", 0)
            await op.read("b", 0)
            async with anything.operation(agent="quick") as other:
                other.write(between, "meanwhile")
            for name in writes:
                op.write(name, "late")
    except MemoryConflict as conflict:
        assert "was refused: others have written" in str(conflict)
        return ", ".join(conflict.stale)
    return "committed"


@pytest.mark.parametrize("writes", [[], ["a"], ["b"], ["c"]])
def test_the_whole_read_set_is_checked_from_l1_on(store: str, writes: list[str]) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            for level in ("L1", "L2", "L3", "L4"):
                assert await runtime.run(meddles, level, "a", writes) == "anything/a"
                assert await runtime.run(meddles, level, "b", writes) == "anything/b"
                assert await runtime.run(meddles, level, "z", writes) == "committed"
            assert await runtime.run(meddles, "L0", "a", writes) == "committed"

    asyncio.run(main())


@weft.workflow
async def expects(level: str, version: int) -> str:
    try:
        async with anything.operation(level=level) as op:  # type: ignore[arg-type]
            op.write("guarded", version, expect=version)
            op.write("with it", version)
    except MemoryConflict:
        return "refused"
    return "written"


def test_a_write_may_expect_a_version_at_any_level(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            for level in ("L0", "L1"):
                await runtime.run(expects, level, 0)
            assert await runtime.run(expects, "L0", 0) == "refused"
            assert await runtime.run(expects, "L0", 1) == "written"
            assert await runtime.run(expects, "L1", 1) == "refused"
            assert await runtime.run(expects, "L1", 2) == "written"
            seen = await runtime.store.look("anything", ["anything/guarded", "anything/with it"])
            assert [one.version for one in seen.objects] == [3, 3]  # all or nothing

    asyncio.run(main())


@weft.workflow
async def lists(level: str, between: str) -> list[Any]:
    async with anything.operation() as op:
        for name in ("n/a", "n/b", "m"):
            op.write(name, name, links=("m",))
    await anything.offer(search)
    try:
        async with anything.operation(level=level, agent="slow") as op:  # type: ignore[arg-type]
            found = [await op.names("n/"), await op.names()]
            op.write("n/mine", 1)
            op.delete("n/a")
            found += [await op.names("n/"), await op.links("m"), await op.links("nothing")]
            async with anything.operation(agent="quick") as other:
                if between == "delete":
                    other.delete("n/b")
                elif between:
                    other.write(between, "new")
    except MemoryConflict as conflict:
        return conflict.stale
    return found


def test_what_was_listed_is_checked_too(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            found = await runtime.run(lists, "L1", "n/b")  # another value of what was listed, not another name
            assert found == [["n/a", "n/b"], ["m", "n/a", "n/b"], ["n/b", "n/mine"], ["m"], []]
            await runtime.run(clears, ["n/mine"])
            assert await runtime.run(lists, "L1", "n/new") == ["anything/*", "anything/n/*"]
            await runtime.run(clears, ["n/new"])
            assert await runtime.run(lists, "L1", "delete") == ["anything/*", "anything/n/*"]
            assert await runtime.run(lists, "L1", "other") == ["anything/*"]
            assert len(await runtime.run(lists, "L0", "n/newer")) == 5

    asyncio.run(main())


@weft.workflow
async def clears(names: list[str]) -> None:
    async with anything.operation() as op:
        for name in names:
            op.delete(name)


def _union(base: list[str] | None, mine: list[str], theirs: list[str] | None) -> list[str]:
    return sorted({*(theirs or []), *mine})


@weft.workflow
async def collects(word: str, wait: float, merge: bool) -> str:
    try:
        async with anything.operation(merge=_union if merge else None) as op:
            words = await op.read("words", [])
            await think(wait)
            op.write("words", [*words, word])
    except MemoryConflict:
        return "refused"
    return "written"


@weft.workflow
async def collect(merge: bool) -> tuple[list[str], list[str]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(collects(word, 0.02 * n, merge)) for n, word in enumerate("abc", 1)]
    async with anything.operation() as op:
        return [task.result() for task in tasks], await op.read("words")


def test_a_merge_function_makes_a_refused_write_fit(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            assert await runtime.run(collect, True) == (["written"] * 3, ["a", "b", "c"])
            said, words = await runtime.run(collect, False)
            assert said.count("written") == 1
            assert words == ["a", "b", "c", *"abc"[said.index("written")]]

    asyncio.run(main())


@weft.workflow
async def gives_up(retries: int) -> list[int]:
    attempts: list[int] = []

    @anything.operation(retries=retries)
    async def unlucky(op: weft.Operation[Any]) -> None:
        attempts.append(op.attempt)
        await op.read("contended", 0)
        async with anything.operation(level="L0") as other:
            other.write(f"contended {len(attempts)}" if len(attempts) > 9 else "contended", len(attempts))

    with pytest.raises(MemoryConflict):
        await unlucky()
    return attempts


def test_a_function_is_run_again_as_often_as_it_may(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            assert await runtime.run(gives_up, 0) == [1]
            assert await runtime.run(gives_up, 1) == [1, 2]

    asyncio.run(main())


@weft.workflow
async def fails() -> str:
    with pytest.raises(ZeroDivisionError):
        async with anything.operation() as op:
            op.write("half", "done")
            raise ZeroDivisionError
    async with anything.operation() as op:
        return str(await op.read("half", "nothing"))


def test_an_operation_that_fails_writes_nothing(store: str) -> None:
    assert run(store, fails) == "nothing"


# --- retraction ---------------------------------------------------------------------------------------------------


@weft.workflow
async def retracts(level: str) -> tuple[list[int], dict[str, int], list[str]]:
    ids: list[str] = []
    for reads, writes in (((), "x"), ((), "x"), (("x",), "y"), (("y",), "z"), ((), "free")):
        async with anything.operation(level=level) as op:  # type: ignore[arg-type]
            made = [await op.read(name) for name in reads]
            op.write(writes, [*made, len(ids)])
        ids.append(op.id)
    done = await anything.retract(ids[1], level=level)  # type: ignore[arg-type]
    again = await anything.retract(ids[1], level=level)  # type: ignore[arg-type]
    assert again == done
    async with anything.operation() as op:
        left = [str(await op.read(name, "nothing")) for name in ("x", "y", "z", "free")]
    return [ids.index(id) for id in done.operations], done.restored, left


def test_a_retraction_takes_what_builds_on_it_along_and_restores_the_values(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            gone, restored, left = await runtime.run(retracts, "L2")
            assert gone == [1, 2, 3]
            assert restored == {"x": 3, "y": 2, "z": 2}
            assert left == ["[0]", "nothing", "nothing", "[4]"]

    asyncio.run(main())


def test_below_l2_only_the_operation_itself_goes(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(retracts, "L1")
            gone, _, left = await run
            assert gone == [1]
            assert left == ["[0]", "[[1], 2]", "[[[1], 2], 3]", "[4]"]
            history = await history_of_runs(runtime.store, [run.id])
            assert {finding.kind for finding in check(history, "L2")} == {"A3"}

    asyncio.run(main())


@weft.workflow
async def builds_on_what_is_tainted() -> str:
    async with anything.operation(level="L1") as first:
        first.write("p", 1)
    async with anything.operation(level="L1") as second:
        second.write("q", await second.read("p"))
    await anything.retract(first.id, level="L1")
    try:
        async with anything.operation(level="L2") as third:
            third.write("r", await third.read("q"))
    except MemoryConflict as conflict:
        assert conflict.dead == [second.id]
        return str(conflict)
    return "committed"


def test_nothing_at_l2_is_built_on_what_builds_on_a_retracted_one(store: str) -> None:
    assert "was retracted or builds on what was" in run(store, builds_on_what_is_tainted)


@weft.workflow
async def retracts_what_is_not_there(operation: str) -> None:
    await anything.retract(operation)


def test_only_a_committed_operation_of_this_memory_can_be_retracted(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            await runtime.run(adds, 1)
            (elsewhere,) = await history_of_runs(runtime.store, [row.id for row in await runtime.store.rows()])
            for operation in ("nobody:1", elsewhere.id):
                with pytest.raises(BadInput, match="no operation that was committed in anything"):
                    await runtime.run(retracts_what_is_not_there, operation)

    asyncio.run(main())


@weft.workflow
async def only_reads() -> str:
    async with anything.operation() as op:
        await op.read("nothing here", None)
    return op.id


@weft.workflow
async def retracts_it(operation: str) -> list[str]:
    return (await anything.retract(operation)).operations


def test_a_retraction_needs_the_right_to_write_and_the_right_memory(store: str) -> None:
    async def main(policy: weft.Policy, operation: str = "") -> str:
        async with weft.Runtime(store, policy=policy) as runtime:
            if not operation:
                return await runtime.run(only_reads)
            await runtime.run(retracts_it, operation)
            return operation

    everything = weft.Policy(base="none", allow=("step:**", "memory:**"))
    operation = asyncio.run(main(everything))
    with pytest.raises(Denied, match=r"memory\.write"):
        asyncio.run(main(weft.Policy(base="none", allow=("step:**", "memory.read:**")), operation))
    asyncio.run(main(everything, operation))


@weft.workflow
async def lives_on() -> list[Any]:
    async with anything.operation(level="L2") as first:
        first.write("kept", (await first.read("kept", 0)) + 1)
    async with scratch.operation() as op:
        op.write("mine", "before")
    await weft.checkpoint("here")
    word = await go.receive()
    async with anything.operation(level="L2") as second:
        second.write(word, first.id)
    return [first.id, second.id, (await anything.retract(second.id)).operations]


def test_forks_replay_their_origin_s_operations_and_make_their_own(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(lives_on)
            await parked(runtime, run.id)
            (checkpoint,) = await runtime.checkpoints(run.id)
            branch = await runtime.fork_checkpoint(checkpoint.id)
            other = await runtime.fork(run.id, at=6)
            ends = []
            for one in (run, branch, other):
                await runtime.send(one.id, "memory go", "x")
                ends.append(await one)
            firsts, seconds, gone = zip(*ends, strict=True)
            assert len(set(firsts)) == 1  # committed once, by the origin
            assert len(set(seconds)) == 3
            assert [list(one) for one in gone] == [[second] for second in seconds]
            assert await runtime.run(reads_one, "kept") == 1
            history = await history_of_runs(runtime.store, [run.id, branch.id, other.id])
            assert len(history) == len({one.id for one in history}) == 3 + 2
            assert check(history, "L4") == []

    asyncio.run(main())


# --- tools --------------------------------------------------------------------------------------------------------


@weft.step
async def search(what: str) -> str:
    return f"searched {what}"


@weft.step
async def search_more(what: str) -> str:
    return f"searched more for {what}"


@weft.workflow
async def offers() -> None:
    await anything.offer(search)


@weft.workflow
async def replaces(step: str) -> None:
    await anything.withdraw("search")
    if step:
        await anything.offer(search_more, "search")


@weft.workflow
async def uses(level: str) -> list[Any]:
    async with anything.operation(level=level) as op:  # type: ignore[arg-type]
        planned = await op.tools()
        await go.receive()
        return [planned, await op.call("search", "it")]


@pytest.mark.parametrize(("level", "step", "answer"), [
    ("L4", "other", "searched it"), ("L4", "", "searched it"), ("L3", "other", "searched more for it"),
])  # fmt: skip
def test_tools_are_pinned_at_l4_across_a_restart(store: str, level: str, step: str, answer: str) -> None:
    async def begin() -> str:
        async with weft.Runtime(store) as runtime:
            await runtime.run(offers)
            run = await runtime.start(uses, level)
            await parked(runtime, run.id)
            await runtime.run(replaces, step)
            return run.id

    async def end(id: str) -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.resume(id)
            await runtime.send(id, "memory go", "on")
            assert await run == [["search"], answer]
            found = check(await history_of_runs(runtime.store, [id]), "L4")
            assert [finding.kind for finding in found] == ([] if level == "L4" else ["A2"])

    asyncio.run(end(asyncio.run(begin())))


def test_a_tool_that_is_gone_or_another_is_refused(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            await runtime.run(offers)
            run = await runtime.start(uses, "L4")
            await parked(runtime, run.id)
            monkeypatch.setattr(search, "version", "other code")
            await runtime.send(run.id, "memory go", "on")
            with pytest.raises(PhantomTool, match="was pinned as"):
                await run
            run = await runtime.start(uses, "L3")
            await parked(runtime, run.id)
            await runtime.run(replaces, "")
            await runtime.send(run.id, "memory go", "on")
            with pytest.raises(PhantomTool, match="has no tool 'search' any more"):
                await run

    asyncio.run(main())


# --- values that can't be read ------------------------------------------------------------------------------------


@weft.workflow
async def reads_both() -> list[str]:
    async def one(name: str) -> str:
        async with anything.operation() as op:
            try:
                return str(await op.read(name))
            except UnknownType as error:
                return f"unknown: {error}"

    return list(await asyncio.gather(one("odd"), one("plain")))


@weft.workflow
async def writes_both(odd: Any) -> None:
    async with anything.operation() as op:
        op.write("odd", odd)
        op.write("plain", "plain")


def test_a_value_of_a_class_that_is_gone_is_one_reader_s_trouble(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("memory_classes")
    monkeypatch.setitem(sys.modules, "memory_classes", module)
    exec("from dataclasses import dataclass\n@dataclass\nclass Odd:\n    x: int", module.__dict__)

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            await runtime.run(writes_both, module.Odd(1))
            monkeypatch.delattr(module, "Odd")
            odd, plain = await runtime.run(reads_both)
            assert odd.startswith("unknown:")
            assert plain == "plain"

    asyncio.run(main())


# --- rights, labels, secrets --------------------------------------------------------------------------------------


@weft.workflow
async def touches(name: str, write: bool) -> Any:
    async with anything.operation() as op:
        if write:
            op.write(name, "touched")
            return None
        return await op.read(name, "nothing")


def test_what_a_process_may_not_touch_it_does_not(store: str) -> None:
    async def main() -> None:
        policy = weft.Policy(base="none", allow=("step:**", "memory.read:anything/**", "memory.write:anything/open/*"))
        async with weft.Runtime(store, policy=policy) as runtime:
            await runtime.run(touches, "open/door", True)
            assert await runtime.run(touches, "open/door", False) == "touched"
            with pytest.raises(Denied, match=r"memory\.write of 'anything/closed'") as refused:
                await runtime.run(touches, "closed", True)
            assert "memory.write:anything/closed" in refused.value.fix
            assert await runtime.run(touches, "closed", False) == "nothing"
            with pytest.raises(Denied, match=r"memory\.read of 'numbers/count'"):
                await runtime.run(counts)

    asyncio.run(main())


@weft.workflow
async def counts() -> int:
    async with numbers.operation() as op:
        return await op.read("count", 0)


@weft.workflow
async def leaks(value: weft.Labelled[str]) -> None:
    async with anything.operation() as op:
        op.write("seen", value.open())
        op.write("sealed", value)


@weft.workflow
async def finds(name: str) -> tuple[str, Any]:
    async with anything.operation() as op:
        found = await op.read(name)
    return str(weft.current().mark), type(found).__name__


def test_labels_go_through_memory(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            await runtime.run(leaks, weft.label("the plan", "confidential"))
            assert await runtime.run(finds, "seen") == ("confidential", "str")
            assert await runtime.run(finds, "sealed") == ("confidential", "Labelled")

    asyncio.run(main())


def test_what_is_one_tenant_s_is_not_read_for_another(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            await runtime.run(leaks, weft.label("the plan", "confidential", ["acme"]))
            assert (await runtime.run(finds.options(tenant="acme"), "seen"))[1] == "str"
            with pytest.raises(ReleaseNeeded, match="tenant=acme"):
                await runtime.run(finds.options(tenant="bolt"), "seen")

    asyncio.run(main())


def test_no_secret_gets_into_memory(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_TOKEN", "tops3cret-value")
    token = weft.secret("MEMORY_TOKEN")

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            token.reveal()
            await runtime.run(says, "the token is tops3cret-value")
            assert "tops3cret" not in await runtime.run(reads_one, "said")

    asyncio.run(main())


@weft.workflow
async def says(text: str) -> None:
    async with anything.operation() as op:
        op.write("said", text)


# --- bad inputs ---------------------------------------------------------------------------------------------------


def test_bad_names_levels_and_numbers_are_refused() -> None:
    for name in ("", "a/b", "a@b", " a", "*", None):
        with pytest.raises(BadInput, match="namespace"):
            weft.Memory(name)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="must be one of L0, L1, L2, L3, L4"):
        weft.Memory("x", level="L9")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="retries"):
        anything.operation(retries=-1)
    with pytest.raises(BadInput, match="order='sometimes'"):
        weft.step(order="sometimes")(lambda: None)
    with pytest.raises(BadInput, match="must be an `async def`"):
        weft.step(order="staged")(lambda: None)


def test_operations_need_a_workflow() -> None:
    async def main() -> None:
        with pytest.raises(NoProcess, match=r"Memory.operation\(\)"):
            async with anything.operation():
                pass

    asyncio.run(main())


@weft.workflow
async def misuses() -> list[str]:
    said = []
    async with notes.operation() as op:
        for wrong in (
            lambda: op.write("", Note("x")),
            lambda: op.write("n", "no note"),  # type: ignore[arg-type]
            lambda: op.write("n", Note("x"), expect=-1),
            lambda: op.write("n", Note("x"), links=("",)),
        ):
            try:
                wrong()
            except BadInput as error:
                said.append(str(error))
    with pytest.raises(BadInput, match="is over"):
        op.write("late", Note("x"))
    with pytest.raises(BadInput, match="the beginning of a name"):
        await op.names()
    with pytest.raises(BadInput, match="is not a step"):
        await anything.offer(misuses)  # type: ignore[arg-type]
    return said


def test_misuse_is_refused_where_it_happens(store: str) -> None:
    name, kind, version, link = run(store, misuses)
    assert name.startswith("op.write(''): a name in memory")
    assert kind.startswith("memory 'notes' holds")
    assert version.startswith("expect=-1")
    assert link.startswith("links=('')")


# --- replay -------------------------------------------------------------------------------------------------------


@weft.workflow
async def commits_and_waits() -> str:
    async with anything.operation() as op:
        op.write("once", (await op.read("once", 0)) + 1)
    await go.receive()
    return op.id


def test_a_replay_commits_nothing_again(store: str) -> None:
    async def begin() -> str:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(commits_and_waits)
            await parked(runtime, run.id)
            return run.id

    async def end(id: str) -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.resume(id)
            await runtime.send(id, "memory go", "on")
            await run
            assert await runtime.run(reads_one, "once") == 1
            outcomes = [record for record in await runtime.recovery.records(id) if type(record) is Outcome]
            assert [one.kind for one in outcomes] == ["memory.begin", "memory.read", "memory.commit", "receive"]

    asyncio.run(end(asyncio.run(begin())))
