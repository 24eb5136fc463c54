"""Labels: what a process has seen, where that may go, what stays sealed, releases, tenants, secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.clearance import Rules, rule
from weft.core.errors import BadInput, Denied, Nondeterminism, ReleaseNeeded
from weft.core.label import PUBLIC, TOP, Label
from weft.core.record import Decision, Outcome, Released, Reserved
from weft.runtime.flow import mark_of
from weft.runtime.inbox import opened as read_question
from weft.tool import files, shell
from weft.trace.audit import verify

CONFIDENTIAL, SECRET = Label("confidential"), Label("secret")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of this test, with something public and something secret in it."""
    for name in ("POLICY", "ALLOW", "ASK", "DENY", "LABEL", "CLEAR"):
        monkeypatch.delenv(f"WEFT_{name}", raising=False)
    inside = tmp_path / "inside"
    (inside / "secrets").mkdir(parents=True)
    (inside / "secrets" / "key").write_text("the secret")
    (inside / "a.txt").write_text("for anybody")
    monkeypatch.chdir(inside)
    return inside


def policy(*clear: str, label: tuple[str, ...] = ("secret file:./secrets",), **more: Any) -> weft.Policy:
    allow = ("write:./", "shell:**", "net:127.0.0.1")
    return weft.Policy(**{"allow": allow, "label": label, "clear": clear, **more})


def drive(store: str, use: Callable[[weft.Runtime], Awaitable[Any]], policy: weft.Policy) -> Any:
    async def main() -> Any:
        async with weft.Runtime(store, policy=policy) as runtime:
            return await use(runtime)

    return asyncio.run(main())


def run(store: str, policy: weft.Policy, workflow: Any, *args: Any) -> Any:
    return drive(store, lambda runtime: runtime.run(workflow, *args), policy)


@weft.step
def read(path: str) -> str:
    return Path(path).read_text()


@weft.step
def write(path: str, text: str) -> str:
    Path(path).write_text(text)
    return "written"


@weft.step(needs="write:{path}")
def write_declared(path: str, text: str) -> str:
    Path(path).write_text(text)
    return "written"


@weft.step
async def joined(*texts: str) -> str:
    return "+".join(texts)


def mark() -> str:
    return str(weft.current().mark)


async def tried(work: Awaitable[Any]) -> Any:
    """The result, or what would have gone where."""
    try:
        return await work
    except ReleaseNeeded as error:
        return error.label, error.action, error.resource.rpartition("/")[2]
    except Denied as error:
        return "denied", error.action, error.resource.rpartition("/")[2]


# --- what a body has seen -------------------------------------------------------------------------------------------


@weft.workflow
async def sees(path: str, out: str) -> list[Any]:
    found: list[Any] = [mark(), await tried(write(out, "before"))]
    found += [await read(path), mark()]
    return [*found, await tried(write(out, "after")), await tried(write_declared(out, "after"))]


def test_what_a_process_has_read_stays_within(store: str, workspace: Path) -> None:
    found = run(store, policy(), sees, "secrets/key", "out.txt")
    refused = ("secret", "file.write", "out.txt")
    assert found == ["public", "written", "the secret", "secret", refused, refused]
    assert (workspace / "out.txt").read_text() == "before"


def test_what_is_public_goes_anywhere(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(sees, "a.txt", "out.txt")
        return await run, await runtime.recovery.records(run.id)

    found, records = drive(store, use, policy())
    assert found == ["public", "written", "for anybody", "public", "written", "written"]
    assert all(record.label is None for record in records if isinstance(record, Outcome))
    assert not any(record.label for record in records if isinstance(record, Decision))


def test_the_line_that_a_refusal_gives_is_the_one_that_clears_it(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> ReleaseNeeded:
        with pytest.raises(ReleaseNeeded) as error:
            await runtime.run(simply_writes, "secrets/key", "out.txt")
        return error.value

    error = drive(store, use, policy())
    assert str(error).startswith("file.write of ")
    line = error.fix.partition("clear = ['")[2].partition("']")[0]
    assert line == "secret write:./out.txt"
    assert run(store, policy(line), simply_writes, "secrets/key", "out.txt") == "written"


@weft.workflow
async def simply_writes(path: str, out: str) -> str:
    return await write_declared(out, await read(path))


def test_what_may_hold_something_gives_it_back(store: str, workspace: Path) -> None:
    """No detour by a place that is cleared; and what came from a place may go back there."""
    cleared = policy("secret write:./kept")
    (workspace / "kept").mkdir()
    assert run(store, cleared, simply_writes, "secrets/key", "kept/key") == "written"
    found = run(store, cleared, sees, "kept/key", "out.txt")
    assert found[3:] == ["secret", ("secret", "file.write", "out.txt"), ("secret", "file.write", "out.txt")]
    assert run(store, policy(), simply_writes, "secrets/key", "secrets/copy") == "written"


@weft.workflow
async def runs(*argv: str) -> str:
    await shell.run(list(argv))
    return mark()


def test_a_program_may_have_read_anything(store: str, workspace: Path) -> None:
    assert run(store, policy(), runs, "cat", "secrets/key") == "secret"
    spoken_of = policy(label=("secret file:./secrets", "public shell:echo **"))
    assert run(store, spoken_of, runs, "echo", "hello") == "public"
    assert run(store, spoken_of, runs, "sh", "-c", "echo hello; cat secrets/key") == "secret"


@weft.step
def copies(source: str, target: str) -> str:
    Path(target).write_text(Path(source).read_text())
    return "copied"


@weft.step
def moves(source: str, target: str) -> str:
    Path(source).rename(target)
    return "moved"


@weft.workflow
async def in_one_step(step: str, source: str, target: str) -> list[Any]:
    which = {"copies": copies, "moves": moves}[step]
    return [await tried(which(source, target)), mark()]


def test_in_the_middle_of_a_step(store: str, workspace: Path) -> None:
    refused = [("secret", "file.write", "out.txt"), "secret"]
    open_policy = policy(base="all")
    assert run(store, policy(), in_one_step, "copies", "secrets/key", "out.txt") == refused
    assert run(store, open_policy, in_one_step, "copies", "secrets/key", "out.txt") == refused
    assert run(store, open_policy, in_one_step, "moves", "secrets/key", "out.txt") == [refused[0], "public"]
    assert run(store, open_policy, in_one_step, "copies", "a.txt", "out.txt") == ["copied", "public"]


@weft.workflow
async def finds(pattern: str) -> list[Any]:
    found = await files.find(pattern)
    return [found, mark()]


def test_what_is_found_carries_what_was_looked_through(store: str, workspace: Path) -> None:
    assert run(store, policy(), finds, "*.txt") == [["a.txt"], "secret"]  # it looks into all folders
    assert run(store, policy(label=("secret file:./elsewhere",)), finds, "*.txt") == [["a.txt"], "public"]


@weft.step(executor="ray")
def far_away(text: str) -> str:
    return text


@weft.workflow
async def goes_far(path: str) -> list[Any]:
    found = [await far_away(await files.read_text("a.txt")), mark()]
    return [*found, await tried(far_away(await read(path)))]


def test_nobody_watches_a_cluster(store: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def carry_out(call: Any) -> Any:
        return call.step.fn(*call.call[0], **call.call[1])

    monkeypatch.setattr("weft.runtime.ray.carry_out", carry_out)
    name = f"{__name__}.far_away"
    found = run(store, policy(), goes_far, "secrets/key")
    assert found == ["for anybody", "secret", ("secret", "step.run", name)]
    spoken_of = policy("secret step:*.far_away", label=("secret file:./secrets", "public step:*.far_away"))
    assert run(store, spoken_of, goes_far, "secrets/key") == ["for anybody", "public", "the secret"]


# --- sealed values --------------------------------------------------------------------------------------------------


@weft.workflow
async def sealed(path: str) -> list[Any]:
    handle = await read.sealed(path)
    both = await joined.sealed(handle, "x")
    found = [repr(handle), repr(both), mark(), await tried(write("out.txt", "clean"))]
    found += [await tried(write_declared("out.txt", both)), mark()]  # type: ignore[arg-type]
    found += [await tried(write_declared("kept.txt", both)), mark()]  # type: ignore[arg-type]
    return [*found, both.open(), mark(), await tried(write("out.txt", "dirty"))]


def test_a_sealed_value_is_passed_on_unseen(store: str, workspace: Path) -> None:
    found = run(store, policy("secret write:./kept.txt"), sealed, "secrets/key")
    assert found == [
        "<labelled secret>", "<labelled secret>", "public", "written",
        ("secret", "file.write", "out.txt"), "public",
        "written", "secret",  # the outcome of a plain call came from it
        "the secret+x", "secret", ("secret", "file.write", "out.txt"),
    ]  # fmt: skip
    assert (workspace / "kept.txt").read_text() == "the secret+x"
    assert (workspace / "out.txt").read_text() == "clean"


@weft.workflow
async def by_name(path: str) -> Any:
    name = await read.sealed(path)
    return [await tried(write_declared.sealed(name, "x")), mark()]


def test_a_refusal_that_tells_what_was_sealed_has_been_seen(store: str, workspace: Path) -> None:
    found = run(store, policy(), by_name, "secrets/key")
    assert found == [("secret", "file.write", "the secret"), "secret"]


def test_a_handle_shows_nothing_and_equals_only_itself() -> None:
    import copy
    import pickle

    handle = weft.label("content", "secret", ["b", "a"])
    assert repr(handle) == str(handle) == f"{handle}" == "<labelled secret tenant=a,b>"
    assert handle != weft.label("content", "secret", ["b", "a"]) and handle == copy.deepcopy([handle])[0]
    assert handle.open() == "content"
    with pytest.raises(TypeError, match="stays closed"):
        pickle.dumps(handle)


def test_outside_a_process_a_sealed_call_is_a_plain_one(workspace: Path) -> None:
    handle = asyncio.run(joined.sealed("a", weft.label("b", "internal")))
    assert (repr(handle), handle.open()) == ("<labelled internal>", "a+b")


# --- children, letters, events --------------------------------------------------------------------------------------


@weft.workflow
async def child(path: str | None, handle: Any = None) -> Any:
    before = mark()
    return [before, await read(path) if path else repr(handle)]


@weft.workflow
async def parent(path: str) -> list[Any]:
    closed = await child.sealed(path)
    found: list[Any] = [repr(closed), mark()]
    found += [await child(None, closed), mark()]
    found += [await child(path), mark()]
    return [*found, await child(None)]


def test_children_inherit_and_give_back(store: str, workspace: Path) -> None:
    found = run(store, policy(), parent, "secrets/key")
    assert found == [
        "<labelled secret>", "public", ["public", "<labelled secret>"], "public", ["public", "the secret"], "secret",
        ["secret", "None"],
    ]  # fmt: skip


box = weft.Mailbox("box", str)


@weft.workflow
async def receives(how: str) -> list[Any]:
    await weft.publish(f"ready:{how}", weft.current().id)
    got: Any = await (box.receive() if how == "letter" else weft.wait_for("news"))
    return [repr(got), mark(), await tried(write("out.txt", "x"))]


@weft.workflow
async def tells(how: str, path: str, closed: bool) -> None:
    what: Any = await (read.sealed(path) if closed else read(path))
    if how == "letter":
        await box.send(await weft.wait_for("ready:letter"), what)
    else:
        await weft.publish("news", what)


@pytest.mark.parametrize("how", ["letter", "event"])
@pytest.mark.parametrize("closed", [False, True])
def test_letters_and_events_carry_what_their_senders_have_seen(
    store: str, workspace: Path, how: str, closed: bool
) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(receives, how)
        await runtime.run(tells, how, "secrets/key", closed)
        return await run

    found = drive(store, use, policy())
    if closed:
        assert found == ["<labelled secret>", "public", "written"]
    else:
        assert found == ["'the secret'", "secret", ("secret", "file.write", "out.txt")]


@weft.workflow
async def cancelled(out: str) -> Any:
    try:
        await weft.sleep(60)
    finally:
        await write(out, "it was cancelled")


@weft.workflow
async def cancels(path: str) -> Any:
    running = await weft.spawn(cancelled, "out.txt")
    await weft.sleep(0.05)
    await read(path)
    await running.cancel()
    return await tried(running)


def test_even_a_cancellation_says_something(store: str, workspace: Path) -> None:
    found = run(store, policy(), cancels, "secrets/key")
    assert found == ("secret", "file.write", "out.txt")
    assert not (workspace / "out.txt").exists()


@weft.workflow
async def becomes(path: str) -> Any:
    await read(path)
    await weft.exec(writes_now)


@weft.workflow
async def writes_now() -> Any:
    return [mark(), await tried(write("out.txt", "x"))]


def test_another_program_under_the_same_name_carries_the_same(store: str, workspace: Path) -> None:
    assert run(store, policy(), becomes, "secrets/key") == ["secret", ("secret", "file.write", "out.txt")]


# --- people and models ----------------------------------------------------------------------------------------------


@weft.workflow
async def asks(path: str) -> Any:
    await read(path)
    return [await tried(weft.ask("what now?", queue="anybody")), await weft.ask("and you?", queue="owners"), mark()]


def test_people_are_places_too(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(asks, "secrets/key")
        id = await question(runtime)
        await runtime.people.answer(id, "go on", "ann")
        return await run

    clear = ("secret ask:owners",)
    found = drive(store, use, policy(*clear, label=("secret file:./secrets", "internal tenant=acme ask:owners")))
    assert found == [("secret", "human.ask", "anybody"), "go on", "secret tenant=acme"]


async def question(runtime: weft.Runtime) -> str:
    async with asyncio.timeout(20):
        while True:
            await runtime.journal.barrier()
            if found := await runtime.store.questions():
                return found[0].id
            await asyncio.sleep(0.02)


@weft.workflow
async def approved(path: str) -> Any:
    return await write_declared("out.txt", await read(path))


def test_an_approval_does_not_show_what_its_reader_may_not_see(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(approved, "secrets/key")
        id = await question(runtime)
        [asked] = await runtime.store.questions()
        await runtime.people.answer(id, "once", "ann")
        return asked.kind, read_question(asked), await run

    given = {"allow": (), "ask": ("write:./out.txt",)}
    kind, asked, _ = drive(store, use, policy("secret write:./out.txt", **given))
    assert (kind, asked.arguments) == ("approval", "(<str, 7>, <str, 10>)")
    clear = ("secret write:./out.txt", "secret ask:default")
    kind, asked, _ = drive(store, use, policy(*clear, **given))
    assert "the secret" in asked.arguments


# --- tenants --------------------------------------------------------------------------------------------------------


@weft.workflow
async def serves(tenants: list[str]) -> list[Any]:
    found = []
    for tenant in tenants:
        found.append(await tried(child.options(tenant=tenant)("acme/data")))
    return [*found, mark(), await tried(child.options(tenant="bolt")("a.txt"))]


def test_what_is_one_tenants_does_not_reach_another(store: str, workspace: Path) -> None:
    (workspace / "acme").mkdir()
    (workspace / "acme" / "data").write_text("of acme")
    found = run(store, policy(label=("confidential tenant=acme file:./acme",)), serves, ["acme"])
    assert found == [
        ["public", "of acme"], "confidential tenant=acme",
        ("confidential tenant=acme", "process.spawn", f"{__name__}.child"),
    ]  # fmt: skip


@weft.workflow
async def writes_letter(to: str) -> Any:
    return await tried(box.send(to, await read("acme/data")))


def test_a_letter_to_another_tenant(store: str, workspace: Path) -> None:
    (workspace / "acme").mkdir()
    (workspace / "acme" / "data").write_text("of acme")

    async def use(runtime: weft.Runtime) -> Any:
        found = []
        for tenant in ("acme", "bolt"):
            run = await runtime.start(receives.options(tenant=tenant), "letter")
            found.append(await runtime.run(writes_letter, run.id))
            await runtime.cancel(run.id)
        return found

    mine, other = drive(store, use, policy(label=("confidential tenant=acme file:./acme",)))
    assert mine is None
    assert other[:2] == ("confidential tenant=acme", "process.send")


# --- releases -------------------------------------------------------------------------------------------------------

again = weft.Mailbox("again", str)


@weft.workflow
async def tries(path: str) -> list[Any]:
    """Writes as often as it is told to, where it is told to."""
    text, found = await read(path), []
    while (what := await again.receive()) != "stop":
        try:
            found.append(await write_declared(what, text))
        except ReleaseNeeded as error:
            await weft.publish("needed", [error.sink, error.value])
            found.append("refused")
    return found


def test_a_release_by_code_counts_once_for_one_value_and_one_place(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(tries, "secrets/key")
        await runtime.send(run.id, "again", "out.txt")
        sink, value = await runtime.run(needed)
        await runtime.release(run.id, sink, value, "me")
        for path in ("other.txt", "out.txt", "out.txt", "stop"):
            await runtime.send(run.id, "again", path)
        return (
            await run,
            await runtime.recovery.records(run.id),
            [flaw async for _, flaws in verify(runtime.store) for flaw in flaws],
        )

    found, records, audit = drive(store, use, policy())
    assert found == ["refused", "refused", "written", "refused"]
    [released] = [record for record in records if isinstance(record, Released)]
    assert (released.who, Path(released.resource).name) == ("me", "out.txt")
    assert [record.uses for record in records if isinstance(record, Reserved)] == [(-1,)]
    assert (workspace / "out.txt").read_text() == "the secret"
    assert audit == []


@weft.workflow
async def needed() -> Any:
    return await weft.wait_for("needed")


def test_a_release_is_not_lost_nor_doubled_by_a_restart(store: str, workspace: Path) -> None:
    async def first(runtime: weft.Runtime) -> str:
        run = await runtime.start(tries, "secrets/key")
        await runtime.send(run.id, "again", "out.txt")
        sink, value = await runtime.run(needed)
        await runtime.release(run.id, sink, value)
        return run.id

    async def later(runtime: weft.Runtime) -> Any:
        for path in ("out.txt",):
            await runtime.send(id, "again", path)
        run = await runtime.resume(id)
        async with asyncio.timeout(20):
            while sum(isinstance(r, Reserved) for r in await runtime.recovery.records(id)) < 1:
                await asyncio.sleep(0.02)
                await runtime.journal.barrier()
        return run.id

    async def last(runtime: weft.Runtime) -> Any:
        run = await runtime.resume(id)
        for path in ("out.txt", "stop"):
            await runtime.send(id, "again", path)
        return await run

    id = drive(store, first, policy())
    drive(store, later, policy())
    assert drive(store, last, policy()) == ["refused", "written", "refused"]


begun: list[str] = []


@weft.step(needs="write:{path}")
async def sends(path: str, text: str) -> str:
    begun.append(text)
    if len(begun) == 1:
        await asyncio.sleep(60)
    return "sent"


@weft.workflow
async def sends_released(path: str) -> list[Any]:
    text = await read(path)
    found = [await tried(sends("out.txt", text))]
    await again.receive()
    return [*found, await tried(sends("out.txt", text)), await tried(sends("out.txt", text))]


def test_what_was_in_flight_keeps_its_release(store: str, workspace: Path) -> None:
    """An idempotent step that had begun when its runtime died runs again, on the release that it had."""
    begun.clear()

    async def first(runtime: weft.Runtime) -> str:
        run = await runtime.start(sends_released, "secrets/key")
        async with asyncio.timeout(20):
            while len(await runtime.recovery.records(run.id)) < 5:
                await asyncio.sleep(0.02)
                await runtime.journal.barrier()
        [denied] = [r for r in await runtime.recovery.records(run.id) if isinstance(r, Outcome) and not r.ok]
        error: Any = weft.core.codec.decode(denied.value)  # type: ignore[arg-type]
        await runtime.release(run.id, error.sink, error.value)
        await runtime.send(run.id, "again", "now")
        async with asyncio.timeout(20):
            while not begun:
                await asyncio.sleep(0.02)
        return run.id

    async def second(runtime: weft.Runtime) -> Any:
        return await (await runtime.resume(id)), await runtime.recovery.records(id)

    id = drive(store, first, policy())
    found, records = drive(store, second, policy())
    refused = ("secret", "file.write", "out.txt")
    assert found == [refused, "sent", refused]
    assert begun == ["the secret", "the secret"]
    assert [record.uses for record in records if isinstance(record, Reserved)] == [(-1,)]


@weft.workflow
async def wants_release(path: str) -> Any:
    text = await read(path)
    return [await tried(write_declared("out.txt", text)), await tried(write_declared("other.txt", text))]


@pytest.mark.parametrize("verdict", ["once", "never"])
def test_a_person_releases_a_value(store: str, workspace: Path, verdict: str) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(wants_release, "secrets/key")
        id = await question(runtime)
        [asked] = await runtime.store.questions()
        with pytest.raises(BadInput, match="answers no release"):
            await runtime.people.answer(id, "always", "ann")
        await runtime.people.answer(id, verdict, "ann")
        return asked.kind, read_question(asked), await run, await runtime.recovery.records(run.id)

    kind, asked, found, records = drive(store, use, policy("ask secret write:./out.txt"))
    assert (kind, asked.label, asked.arguments) == ("release", "secret", "(<str, 7>, <str, 10>)")
    assert [(action, Path(resource).name) for action, resource in asked.sinks] == [("file.write", "out.txt")]
    released = [record.who for record in records if isinstance(record, Released)]
    first = "written" if verdict == "once" else ("denied", "file.write", "out.txt")
    assert found == [first, ("secret", "file.write", "other.txt")]
    assert released == (["ann"] if verdict == "once" else [])


# --- secrets --------------------------------------------------------------------------------------------------------

token = weft.secret("FLOW_TEST_TOKEN")


@weft.step
def reveals() -> int:
    return len(token.reveal())


@weft.step(needs="secret:FLOW_TEST_TOKEN")
def reveals_declared() -> str:
    return f"it is {token.reveal()}"


@weft.workflow
async def opens(step: str) -> list[Any]:
    which = {"reveals": reveals, "reveals_declared": reveals_declared}[step]
    return [await tried(which()), mark()]


@weft.workflow
async def reveals_in_its_body() -> str:
    return token.reveal()


def test_only_steps_that_may_open_a_secret(store: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_TEST_TOKEN", "correct horse")

    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(opens, "reveals")
        found = await run
        return found, await runtime.recovery.records(run.id)

    found, records = drive(store, use, weft.Policy())
    assert found == [13, "public"]
    assert [(r.action, r.resource, r.verdict) for r in records if isinstance(r, Decision)] == [
        ("secret.open", "FLOW_TEST_TOKEN", "allow")
    ]
    assert run(store, weft.Policy(), opens, "reveals_declared") == ["it is [secret:FLOW_TEST_TOKEN]", "public"]
    denied = weft.Policy(deny=("secret:FLOW_*",))
    for step in ("reveals", "reveals_declared"):
        assert run(store, denied, opens, step)[0] == ("denied", "secret.open", "FLOW_TEST_TOKEN")
    with pytest.raises(Nondeterminism, match="pass the handle to a step"):
        run(store, weft.Policy(), reveals_in_its_body)
    labelled = weft.Policy(label=("secret secret:FLOW_TEST_TOKEN",))
    for step in ("reveals", "reveals_declared"):
        assert run(store, labelled, opens, step)[1] == "secret"


# --- the same on replay ---------------------------------------------------------------------------------------------


@weft.workflow
async def long_story(path: str) -> list[Any]:
    found = [mark()]
    handle = await read.sealed(path)
    found.append(mark())
    await asyncio.gather(read("a.txt"), weft.sleep(0.01))
    handle.open()
    found.append(mark())
    await weft.publish("there", None)
    return [*found, await again.receive(), mark()]


def test_marks_are_the_same_on_replay(store: str, workspace: Path) -> None:
    async def first(runtime: weft.Runtime) -> str:
        run = await runtime.start(long_story, "secrets/key")
        await runtime.run(there)
        return run.id

    async def second(runtime: weft.Runtime) -> Any:
        run = await runtime.resume(id)
        await runtime.send(id, "again", "hello")
        found = await run
        records = await runtime.recovery.records(id)
        image = await runtime.rights.image((await runtime.row(id)).image)
        last = max(record.effect for record in records if isinstance(record, Outcome))
        return found, mark_of(image, records), await (await runtime.fork(id, at=last + 1))

    id = drive(store, first, policy())
    found, mark, forked = drive(store, second, weft.Policy())  # the policy that counts is the one that it began with
    assert found == forked == ["public", "public", "secret", "hello", "secret"]
    assert mark == SECRET


@weft.workflow
async def there() -> Any:
    return await weft.wait_for("there")


# --- lines of a policy ----------------------------------------------------------------------------------------------


def test_lines_that_mean_nothing_are_refused() -> None:
    for spec, why in {
        "secrte file:./x": "did you mean 'secret'",
        "net:x": "says no label",
        "tenant= file:./x": "names no tenant",
        "secret file:./x uses=1": "no effect, uses",
        "ask secret file:./x": "ask says",
    }.items():
        with pytest.raises(BadInput, match=why):
            weft.Policy(label=(spec,))
    with pytest.raises(BadInput, match="is no sensitivity"):
        Label("hidden")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no name of a tenant"):
        Label("internal", ["a b"])  # type: ignore[arg-type]


def test_settings_name_labels_too(workspace: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "weft.toml").write_text('[policy]\nallow = ["write:./"]\nlabel = ["secret file:./secrets"]\n')
    monkeypatch.setenv("WEFT_CLEAR", "secret write:./out.txt")

    async def use() -> Any:
        async with weft.Runtime(store) as runtime:
            return await runtime.run(simply_writes, "secrets/key", "out.txt")

    assert asyncio.run(use()) == "written"


def test_clearances() -> None:
    def rules(label: tuple[str, ...] = (), clear: tuple[str, ...] = ()) -> Rules:
        labels = [rule(spec, "/ws", clears=False) for spec in label]
        return Rules(labels, [rule(spec, "/ws", clears=True) for spec in clear])

    request = weft.core.capability.Request
    none = rules()
    assert none.clearance(request("file.write", "/ws/a")) == PUBLIC
    assert none.clearance(request("memory.write", "notes")) == TOP
    some = rules(("secret file:./s",), ("internal net:*.corp.example:443", "ask secret net:**", "public memory:**"))
    assert some.clearance(request("net.connect", "a.corp.example:443")) == Label("internal")
    assert some.askable(request("net.connect", "a.corp.example:443")) == SECRET
    assert some.clearance(request("file.write", "/ws/s/x")) == SECRET
    assert some.clearance(request("memory.write", "notes")) == PUBLIC
    assert some.source(request("file.read", "/ws/S/x")) == SECRET, "another spelling is the same file to some"
    assert some.clearance(request("file.write", "/ws/S/x")) == PUBLIC
    assert some.everything == SECRET
