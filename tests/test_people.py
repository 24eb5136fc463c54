"""Questions and approvals: they wait, survive, bind to what was shown, and are inherited; what peers get wrong."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import weft
from tests.programs import drive, parked, until_dead
from tests.stores import eventually
from tests.terminal import Terminal
from weft.core.errors import BadInput, Denied, QuestionExpired, UnknownQuestion
from weft.core.record import Approved, Decision, Outcome
from weft.runtime.inbox import OpenQuestion
from weft.runtime.people import box

ASKING = weft.Policy(base="program", ask=("shell:git push **",))
ran: list[Any] = []


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("WEFT_POLICY", "WEFT_ALLOW", "WEFT_ASK", "WEFT_DENY"):
        monkeypatch.delenv(name, raising=False)
    ran.clear()
    yield


@weft.step(needs="shell:git push {branch}")
async def push(branch: str) -> str:
    ran.append(branch)
    return f"pushed {branch}"


@weft.step(needs="shell:git push {branch}", retries=weft.Retry(attempts=3, delay=0.01))
async def push_badly(branch: str) -> str:
    ran.append(branch)
    if len(ran) < 3:
        raise ConnectionError("the line is bad")
    return f"pushed {branch}"


@weft.step
async def note(value: Any) -> Any:
    ran.append(value)
    return value


@weft.workflow
async def pushes(*branches: str) -> list[Any]:
    found: list[Any] = []
    for branch in branches:
        try:
            found.append(await push(branch))
        except Denied as error:
            found.append(error.why)
    return found


async def question(runtime: weft.Runtime, text: str = "") -> OpenQuestion:
    """The open one with this text, as soon as there is one."""

    async def look() -> OpenQuestion | None:
        return next((one for one in await runtime.questions() if text in one.text), None)

    found: OpenQuestion = await eventually(look)
    return found


async def nobody_asks(runtime: weft.Runtime) -> bool:
    return not await runtime.questions()


# --- questions ------------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    name: str
    count: int = 1


@weft.workflow
async def asks(kind: str) -> Any:
    match kind:
        case "plan":
            return await weft.ask("Which plan?", Plan, queue="lead")
        case "colour":
            return await weft.ask("Which colour?", Literal["red", "green"])
        case "sure":
            return await weft.ask("Sure?", bool)
    return await weft.ask("What?")


@pytest.mark.parametrize(
    ("kind", "answer", "result", "wrong"),
    [
        ("plan", {"name": "a", "count": 2}, Plan("a", 2), {"count": 2}),
        ("plan", Plan("b"), Plan("b"), 7),
        ("colour", "green", "green", "blue"),
        ("sure", True, True, "maybe"),
        ("text", "this", "this", 3),
    ],
)
def test_an_answer_has_the_type_that_was_asked_for(store: str, kind: str, answer: Any, result: Any, wrong: Any) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks, kind)
        asked = await question(runtime)
        assert (asked.run, asked.kind, asked.queue) == (run.id, "question", "lead" if kind == "plan" else "default")
        assert [one.id for one in await runtime.questions("lead")] == ([asked.id] if kind == "plan" else [])
        with pytest.raises(BadInput, match="it takes"):
            await runtime.answer(asked.id, wrong)
        await runtime.answer(asked.id[-5:], answer, who="eve")
        assert await run == result
        assert await nobody_asks(runtime)
        with pytest.raises(UnknownQuestion):
            await runtime.answer(asked.id, answer)
        records = await runtime.recovery.records(run.id)
        assert [(r.verdict, r.who) for r in records if isinstance(r, Approved)] == [("answered", "eve")]

    drive(store, use)


@weft.workflow
async def in_time(seconds: float, default: Any = ...) -> Any:
    options = {} if default is ... else {"default": default}
    return await weft.ask("Quick?", timeout=seconds, **options)


def test_a_question_that_nobody_answers_has_its_default_or_expires(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(in_time, 0.2, "no") == "no"
        with pytest.raises(QuestionExpired, match="Quick"):
            await runtime.run(in_time, 0.2)
        run = await runtime.start(in_time, 6, None)  # long enough to leave memory
        await parked(runtime, run.id)
        assert (await question(runtime)).expires is not None
        async with asyncio.timeout(60):
            assert await run is None
        assert await nobody_asks(runtime)

    drive(store, use)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="timeout"):
        weft.run(in_time, -1.0)


@weft.workflow
async def escalates() -> str:
    return await weft.ask("Anybody?", queue="desk", escalate=(0.3, "lead"))


def test_a_question_goes_to_another_queue_after_a_while(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(escalates)
        asked = await question(runtime)
        assert asked.queue == "desk"
        await eventually(lambda: runtime.questions("lead"))
        assert await runtime.questions("desk") == []
        await runtime.answer(asked.id, "me")
        assert await run == "me"

    drive(store, use)


@weft.workflow
async def gives_up() -> str:
    try:
        async with asyncio.timeout(0.2):
            return await weft.ask("Now?")
    except TimeoutError:
        await note("gave up")
    return await weft.ask("Later?")


def test_an_answer_after_the_body_gave_up_changes_nothing(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(gives_up)
        first = await question(runtime, "Now?")
        later = await question(runtime, "Later?")
        assert [one.id for one in await runtime.questions()] == [later.id]
        with pytest.raises(UnknownQuestion):
            await runtime.answer(first.id, "too late")
        # One that was under way when the body gave up:
        runtime.post.put(run.id, box(int(first.id.rpartition(":")[2])), {"value": "too late", "who": "eve"})
        await parked(runtime, run.id)
        await runtime.answer(later.id, "yes")
        assert await run == "yes"
        assert ran == ["gave up"]

    drive(store, use)


def test_only_its_own_answer_wakes_who_waits(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks, "text")
        asked = await question(runtime)
        await parked(runtime, run.id)
        before = await runtime.recovery.records(run.id)
        runtime.post.put(run.id, box(99), {"value": "stale", "who": "eve"})
        await runtime.journal.barrier()

        async def dropped() -> bool:
            return run.id not in runtime.active and not await runtime.store.inbox([run.id])

        await eventually(dropped)
        assert await runtime.recovery.records(run.id) == before
        assert (await runtime.row(run.id)).state == "waiting"
        with pytest.raises(BadInput, match="Weft's own"):
            await runtime.send(run.id, box(1), {"value": "forged", "who": "eve"})
        await runtime.answer(asked.id, "mine")
        assert await run == "mine"

    drive(store, use)


def test_whoever_has_ended_asks_nothing(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks, "text")
        await question(runtime)
        await run.cancel()
        await runtime.end_of(run.id)
        assert await nobody_asks(runtime)
        run = await runtime.start(asks, "text")
        await question(runtime)
        await parked(runtime, run.id)
        await runtime.signal(run.id, "kill")
        await runtime.end_of(run.id)
        await eventually(lambda: nobody_asks(runtime))

    drive(store, use)


# --- approvals ------------------------------------------------------------------------------------------------------


def answering(*answers: str) -> Callable[[weft.Runtime], Awaitable[Any]]:
    """Run `pushes`, and answer what is asked, one after the other."""

    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(pushes, "main", "main", "other")
        for answer in answers:
            asked = await question(runtime)
            await runtime.answer(asked.id, answer, who="eve")
            await eventually(lambda id=asked.id: gone(runtime, id))
        return await run

    return use


async def gone(runtime: weft.Runtime, id: str) -> bool:
    return all(one.id != id for one in await runtime.questions())


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (("once", "once", "never"), ["pushed main", "pushed main", "eve said no"]),
        (("always", "once"), ["pushed main", "pushed main", "pushed other"]),
        (("never", "once"), ["eve said no", "human:eve denies it", "pushed other"]),
    ],
)
def test_once_always_never(store: str, answers: tuple[str, ...], found: list[str]) -> None:
    got = drive(store, answering(*answers), policy=ASKING)
    assert [one.startswith(some) for one, some in zip(got, found, strict=True)] == [True] * 3, got
    assert ran == [word.removeprefix("pushed ") for word in found if word.startswith("pushed")]


def approvals(**how: Any) -> weft.Policy:
    return weft.Policy(base="program", ask=("shell:git push **",), approvals=weft.Approvals(**how))


def test_an_approval_that_nobody_gives_in_time_is_refused_this_once(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(pushes, "a", "a") == ["nobody answered within 0.2 s"] * 2
        assert await nobody_asks(runtime)

    drive(store, use, policy=approvals(timeout=0.2))
    assert ran == []


def test_it_is_done_if_the_policy_says_so(store: str) -> None:
    drive(store, lambda runtime: runtime.run(pushes, "a"), policy=approvals(timeout=0.2, otherwise="once"))
    assert ran == ["a"]


def test_the_time_runs_on_while_the_run_is_out_of_memory(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(pushes, "a")
        await parked(runtime, run.id)
        assert (await question(runtime)).expires is not None
        assert await run == ["nobody answered within 4 s"]

    drive(store, use, policy=approvals(timeout=4))


@weft.workflow
async def lets_a_child_push() -> list[Any]:
    return await pushes("a")


def test_an_approval_goes_to_its_queue_and_then_to_another_also_of_a_child(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(lets_a_child_push)
        asked = await question(runtime)
        assert asked.queue == "desk"
        await eventually(lambda: runtime.questions("lead"))
        await runtime.answer(asked.id, "once")
        assert await run == ["pushed a"]

    drive(store, use, policy=approvals(queue="desk", escalate_after=0.3, escalate_to="lead"))


@pytest.mark.parametrize("wrong", [{"timeout": -1.0}, {"queue": ""}, {"escalate_after": 3.0}, {"escalate_to": "lead"}])
def test_terms_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="approvals"):
        weft.Approvals(**wrong)


def test_terms_stand_in_the_settings_file(store: str) -> None:
    Path("weft.toml").write_text('[policy]\nask = ["shell:git push **"]\n[policy.approvals]\ntimeout = 0.2\n')
    assert drive(store, lambda runtime: runtime.run(pushes, "a")) == ["nobody answered within 0.2 s"]
    Path("weft.toml").write_text("[policy.approvals]\nafter = 3\n")
    with pytest.raises(BadInput, match="after"):
        drive(store, lambda runtime: runtime.run(pushes, "a"))


def test_what_was_said_stands_in_the_journal(store: str) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(pushes, "main", "main")
        asked = await question(runtime)
        assert asked.requests == (("shell.run", "git push main"),)
        assert (asked.kind, asked.arguments, asked.takes) == ("approval", "'main'", "once, always or never")
        with pytest.raises(BadInput, match="answers no approval"):
            await runtime.answer(asked.id, "perhaps")
        await runtime.answer(asked.id, "never", who="eve")
        await run
        return await runtime.recovery.records(run.id)

    records = drive(store, use, policy=ASKING)
    assert [(r.verdict, r.who) for r in records if isinstance(r, Approved)] == [("never", "eve")]
    denied = [r for r in records if isinstance(r, Decision)]
    assert [(r.verdict, r.resource) for r in denied] == [("deny", "git push main")] * 2
    assert denied[0].by == denied[1].by is not None


@weft.workflow
async def both() -> list[Any]:
    return list(await asyncio.gather(push("main"), note("meanwhile"), push("main")))


def test_other_calls_finish_while_one_waits_for_approval(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(both)
        asked = await question(runtime)
        await eventually(lambda: finished(runtime, run.id))
        assert ran == ["meanwhile"]
        await parked(runtime, run.id)  # and it costs no memory to wait
        await runtime.answer(asked.id, "always")  # which is a word about the other call, too
        assert await run == ["pushed main", "meanwhile", "pushed main"]
        assert ran == ["meanwhile", "main", "main"]
        assert await nobody_asks(runtime)

    drive(store, use, policy=ASKING)


async def finished(runtime: weft.Runtime, id: str) -> bool:
    return any(isinstance(r, Outcome) and r.name.endswith("note") for r in await runtime.recovery.records(id))


@weft.workflow
async def persistent() -> list[str]:
    return [await push_badly("main"), await push_badly("main")]


def test_a_retry_is_not_asked_twice_and_a_second_call_is(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(persistent)
        first = await question(runtime)
        await runtime.answer(first.id, "once")
        await eventually(lambda: gone(runtime, first.id))
        second = await question(runtime)
        assert second.id != first.id and second.requests == first.requests
        assert ran == ["main"] * 3
        await runtime.answer(second.id, "once")
        assert await run == ["pushed main"] * 2

    drive(store, use, policy=ASKING)


@weft.workflow
async def then_fails(fail: bool) -> str:
    pushed = await push("main")
    await note("after")
    if fail:
        raise ValueError("the continuation fails")
    return pushed


def test_an_approval_that_was_used_is_not_lost_with_what_came_after(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(then_fails, True)
        await runtime.answer((await question(runtime)).id, "once")
        with pytest.raises(ValueError, match="continuation"):
            await run
        again = await runtime.fork(run.id, at=2, input=((False,), {}))
        assert await again == "pushed main"  # its push is history, and nobody is asked about it
        assert ran == ["main", "after", "after"]
        anew = await runtime.fork(run.id, at=1, input=((False,), {}))
        asked = await question(runtime)
        assert asked.run == anew.id  # to push anew is another matter
        await runtime.answer(asked.id, "once")
        assert await anew == "pushed main"

    drive(store, use, policy=ASKING)


def test_an_answer_to_something_else_is_no_answer(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(pushes, "main")
        asked = await question(runtime)
        for letter in ({"value": "once", "binding": b"of other arguments"}, {"value": "once"}, {"value": ["once"]}, 7):
            runtime.post.put(run.id, box(1), letter)
            await runtime.journal.barrier()
        await eventually(lambda: rejected(runtime))
        assert ran == []
        await runtime.answer(asked.id, "once")
        assert await run == ["pushed main"]

    drive(store, use, policy=ASKING)


async def rejected(runtime: weft.Runtime) -> bool:
    return bool((await question(runtime)).rejected) and not await runtime.store.inbox([(await question(runtime)).run])


def test_a_person_may_be_asked_whether_a_question_may_be_asked(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks, "text")
        asked = await question(runtime, "wants to")
        await runtime.answer(asked.id, "once")
        asked = await question(runtime, "What?")
        await runtime.answer(asked.id, "this")
        assert await run == "this"

    drive(store, use, policy=weft.Policy(base="program", ask=("ask:**",)))


def test_secrets_are_not_shown_to_those_who_are_asked(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_API_TOKEN", "tok-0123456789abcdef")

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(pushes, "tok-0123456789abcdef", "main")
        asked = await question(runtime)
        assert asked.text.rpartition("people.")[2] == "push wants to: shell.run git push '[secret:DEMO_API_TOKEN]'"
        assert asked.arguments == "'[secret:DEMO_API_TOKEN]'"
        stored = await runtime.store.questions()
        assert b"0123456789abcdef" not in stored[0].body
        await runtime.answer(asked.id, "always")
        await runtime.answer((await question(runtime, "push main")).id, "once")
        await run
        for segment in await runtime.store.segments([run.id]):
            assert b"0123456789abcdef" not in segment.records

    drive(store, use, policy=ASKING)


# --- children -------------------------------------------------------------------------------------------------------


@weft.workflow
async def delegates(first: bool, rights: list[str] | None = None) -> list[Any]:
    mine = await pushes("main") if not first else [str(await attempt())]
    child = pushes if rights is None else pushes.options(rights=rights)
    return [*mine, *await child("main")]


async def attempt() -> Any:
    try:
        return await push("main")
    except Denied as error:
        return error.why


@pytest.mark.parametrize("rights", [None, ["step:**", "shell:git **"]])
def test_children_inherit_a_never_and_are_asked_where_their_parent_is(store: str, rights: list[str] | None) -> None:
    policy = weft.Policy(base="program", allow=("shell:git **",), ask=("shell:git push **",))

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(delegates, True, rights)
        asked = await question(runtime)
        assert asked.run == run.id
        await runtime.answer(asked.id, "never", who="eve")
        found = await run
        assert found[0] == "eve said no" and found[1].startswith("human:eve denies it")

        run = await runtime.start(delegates, False, rights)
        for _ in range(2):  # two children, each asked for itself
            asked = await question(runtime)
            assert asked.run != run.id
            await runtime.answer(asked.id, "once")
            await eventually(lambda id=asked.id: gone(runtime, id))
        assert await run == ["pushed main"] * 2

    drive(store, use, policy=policy)


def test_a_child_cannot_be_given_what_its_parent_is_denied(store: str) -> None:
    policy = weft.Policy(base="program", allow=("shell:git **",), deny=("shell:git push **",))

    async def use(runtime: weft.Runtime) -> Any:
        return await runtime.run(delegates, True, ["step:**", "allow shell:git push **"])

    found = drive(store, use, policy=policy)
    assert all(one.startswith("policy denies it") for one in found)
    assert ran == []


# --- real processes -------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, time, weft

def log(word):
    with open("log", "a") as file:
        file.write(word + "\\n")

@weft.step(needs="shell:git push {branch}")
def push(branch: str) -> str:
    log("push " + branch)
    SLEEP
    return "pushed " + branch

@weft.workflow
async def ship(branch: str = "main") -> str:
    name = await weft.ask("What name?")
    return name + " " + await push(branch)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    place = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    found = Terminal(tmp_path, PROGRAM.replace("SLEEP", "pass"), place)
    found.environment |= {"WEFT_ASK": "shell:git push **", "WEFT_ALLOW": "write:./log"}
    yield found
    found.close()


def test_answers_outlive_the_death_of_whoever_asked(terminal: Terminal) -> None:
    child, run = terminal.begin("run", "shop.py")
    asked = terminal.asked("What name?")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    until_dead(terminal.store)
    said = terminal("answer", asked["short"], "blue")
    assert f"weft resume {run}" in said  # nobody executes it
    child, _ = terminal.begin("resume", run)
    asked = terminal.asked("push")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    until_dead(terminal.store)
    terminal("answer", asked["id"], "once", "--who", "eve")
    assert terminal.json("resume", run)["result"] == "blue pushed main"
    assert terminal.lines() == ["push main"]
    assert terminal.json("inbox") == []


def test_an_approved_step_that_is_killed_in_its_middle_is_not_asked_about_again(terminal: Terminal) -> None:
    terminal.write(PROGRAM.replace("SLEEP", "time.sleep(1 if len(open('log').readlines()) > 1 else 60)"))
    terminal.environment["WEFT_ALLOW"] += "; read:./log"
    child, run = terminal.begin("run", "shop.py")
    terminal("answer", terminal.asked("What name?")["id"], "blue")
    terminal("answer", terminal.asked("push")["id"], "once")
    while not terminal.lines():
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    until_dead(terminal.store)
    assert terminal.json("resume", run)["result"] == "blue pushed main"
    assert terminal.lines() == ["push main"] * 2  # it may be repeated, and was allowed once


def test_changed_code_asks_again(terminal: Terminal) -> None:
    child, run = terminal.begin("run", "shop.py")
    terminal("answer", terminal.asked("What name?")["id"], "blue")
    asked = terminal.asked("push")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    until_dead(terminal.store)
    terminal("answer", asked["id"], "once")
    terminal.write(PROGRAM.replace("SLEEP", "branch = branch + ' --force'"))
    child, _ = terminal.begin("resume", run)
    while not (again := terminal.asked("push"))["rejected"]:
        pass
    assert (again["id"], again["rejected"]) == (asked["id"], "it was about other arguments or other code")
    assert terminal.lines() == []
    terminal("answer", again["id"], "once")
    out, _ = child.communicate(timeout=60)
    assert out.strip() == "blue pushed main --force"
