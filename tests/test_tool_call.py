"""Calls of tools in workflows: journaled once, survived, approved, denied, changed by hooks; what models are told."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

import weft
from tests.programs import drive, parked, until_dead
from tests.stores import eventually
from weft.core.codec import decode
from weft.core.content import Blob, Content, Text, ToolCall, ToolResult, Uri
from weft.core.errors import BadInput, BudgetExceeded, Denied, NoProcess, StepTimeout
from weft.core.record import Outcome
from weft.tool import Progress, Tool, ToolContext, ToolRetry, Toolset, builtin, tool
from weft.tool.result import parts_of

ROOT = Path(__file__).parents[1]
ran: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()


def call(name: str = "double", id: str = "c1", /, **arguments: Any) -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


@tool
async def double(x: int) -> int:
    """Twice as much."""
    ran.append(x)
    return x * 2


@tool
def slow_double(x: int) -> int:
    ran.append(x)
    return x * 2


TOOLS: dict[str, Tool[..., Any]] = {"double": double, "slow_double": slow_double}


@weft.workflow(name="tools.calls")
async def calls(*given: ToolCall) -> list[ToolResult]:
    """Each in turn."""
    return [await TOOLS[one.name].call(one) for one in given]


@weft.workflow(name="tools.waits")
async def waits(one: ToolCall) -> ToolResult:
    result = await TOOLS[one.name].call(one)
    await weft.Mailbox("go").receive()
    return result


def run(place: str, made: Tool[..., Any], /, *, policy: weft.Policy | None = None, **arguments: Any) -> ToolResult:
    """One call of this tool in a run of its own."""
    TOOLS["it"] = made
    options = {} if policy is None else {"policy": policy}
    found: list[ToolResult] = drive(place, lambda runtime: runtime.run(calls, call("it", **arguments)), **options)
    return found[0]


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


# --- one effect -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["double", "slow_double"])
def test_a_call_is_one_effect_whose_value_is_what_the_model_sees(store: str, name: str) -> None:
    async def use(runtime: weft.Runtime) -> str:
        run = await runtime.start(waits, call(name, x="4"))
        await parked(runtime, run.id)
        records = [one for one in await runtime.recovery.records(run.id) if isinstance(one, Outcome)]
        assert [(one.kind, one.name, one.ok) for one in records] == [("step", name, True)]
        part = {"type": "text", "content": "8"}
        seen = {"type": "tool_call_response", "id": "c1", "name": name, "response": (part,)}
        assert decode(records[0].value) == seen
        return run.id

    async def go_on(runtime: weft.Runtime) -> ToolResult:
        run = await runtime.resume(id)
        await runtime.send(id, "go", True)
        found: ToolResult = await run
        return found

    id = drive(store, use)
    assert drive(store, go_on) == ToolResult.of("c1", "8", name=name)
    assert ran == [4]


def test_a_program_calls_it_like_any_step(place: str) -> None:
    @weft.workflow
    async def program() -> list[Any]:
        return [await double(3), await slow_double(x=4), await double.options(retries=2)(5)]

    assert drive(place, lambda runtime: runtime.run(program)) == [6, 8, 10]
    assert asyncio.run(double(2)) == 4
    assert asyncio.run(slow_double(2)) == 4


def test_outside_of_a_workflow_a_call_simply_runs() -> None:
    assert asyncio.run(double.call(call(x=1))) == ToolResult.of("c1", "2", name="double")
    assert asyncio.run(Toolset(slow_double).call(call("slow_double", x=1))).text == "2"


def test_sync_tools_run_in_threads(place: str) -> None:
    barrier = threading.Barrier(2, timeout=10)

    @tool
    def meet(x: int) -> int:
        barrier.wait()
        return x

    both = Toolset(meet)
    pair = [call("meet", x=1), call("meet", x=2)]

    @weft.workflow
    async def program() -> list[ToolResult]:
        return await both.call_all(pair)

    assert [one.text for one in drive(place, lambda runtime: runtime.run(program))] == ["1", "2"]
    assert [one.text for one in asyncio.run(both.call_all(pair))] == ["1", "2"]


PROGRAM = """
import os, signal
from pathlib import Path
import weft
from weft.core.content import ToolCall
from weft.tool import tool

def once(word):
    with open("log", "a") as log:
        log.write(word + "\\n")
    if not Path(word).exists():
        Path(word).touch()
        os.kill(os.getpid(), signal.SIGKILL)

@tool(effect="at_most_once")
async def pay(amount: int) -> str:
    once("pay")
    return "paid"

@tool(effect="at_most_once", on_unknown="done")
async def book(seat: int) -> str:
    once("book")
    return "booked"

@tool
def look(what: str) -> str:
    once("look")
    return what

@weft.workflow
async def work() -> list[str]:
    found = []
    calls = (("look", look, {"what": "up"}), ("pay", pay, {"amount": 3}), ("book", book, {"seat": 1}))
    for name, made, arguments in calls:
        result = await made.call(ToolCall(id=name, name=name, arguments=arguments))
        found.append(f"{result.error} {result.text}")
    return found
"""
DRIVER = """
import asyncio, sys
import weft
from tests.programs import impatient
from program import work

async def main():
    async with weft.Runtime(impatient(sys.argv[1])) as runtime:
        await runtime.resume_all()
        print(await runtime.run(work.options(key="it")))

asyncio.run(main())
"""


def test_a_killed_process_calls_again_only_what_may_be_called_again(store: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "driver.py").write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "driver.py", store]
    codes = []
    for _ in range(4):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        codes.append(done.returncode)
        until_dead(store)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, -signal.SIGKILL, 0], done.stderr
    assert (tmp_path / "log").read_text().split() == ["look", "look", "pay", "book"]
    assert "'False up'" in done.stdout
    assert "'False '" in done.stdout  # booked, and nobody knows more
    assert "True it was under way when the machine failed, so it may or may not have been done" in done.stdout


# --- rights ---------------------------------------------------------------------------------------------------------


def test_a_denied_tool_is_not_called_and_the_model_is_told(place: str) -> None:
    result = run(place, double, policy=weft.Policy(base="program", deny=("tool:double",)), x=1)
    assert (result.error, ran) == (True, [])
    assert result.text == "not allowed: tool.call of 'double' is denied; do it another way"
    renamed = run(place, double.renamed("twice"), policy=weft.Policy(base="program", deny=("tool:double",)), x=1)
    assert renamed.text == result.text
    allowed = run(place, double, policy=weft.Policy(base="none", allow=("tool:double",)), x=1)
    assert allowed.text == "2"


def test_what_a_tool_needs_is_decided_before_and_what_it_does_when_it_does_it(workspace: Path) -> None:
    @tool(needs="write:{path}")
    def write(path: Path, context: ToolContext[Any]) -> str:
        (context.workspace / path).write_text("done")
        return "written"

    @tool
    def sneak(path: str) -> str:
        return Path(path).read_text()

    place = str(workspace.parent / "journal.db")
    policy = weft.Policy(allow=("write:./out",))
    (workspace / "out").mkdir()
    assert run(place, write, policy=policy, path="out/a").text == "written"
    assert (workspace / "out" / "a").read_text() == "done"
    assert "file.write of" in run(place, write, policy=policy, path="b").text
    assert run(place, sneak, policy=policy, path="a.txt").text == "of the workspace"
    assert "file.read of" in run(place, sneak, policy=policy, path="../outside/secret.txt").text


def test_a_tool_that_a_step_calls_is_decided_in_the_steps_name(place: str) -> None:
    @weft.step
    async def helper() -> int:
        return await double(1)

    @weft.workflow
    async def program() -> int:
        return await helper()

    policy = weft.Policy(base="program", deny=("tool:double",))
    with pytest.raises(Denied, match=r"tool\.call"):
        drive(place, lambda runtime: runtime.run(program), policy=policy)
    assert ran == []
    assert drive(place, lambda runtime: runtime.run(program), policy=weft.Policy(base="program")) == 2


# --- approvals --------------------------------------------------------------------------------------------------------


@tool(approval=True)
async def send(to: str, text: str = "hello") -> str:
    ran.append(to)
    return f"sent to {to}"


@tool(approval=lambda amount, **_: amount > 100)
async def pay(amount: int) -> str:
    ran.append(amount)
    return "paid"


TOOLS |= {"send": send, "pay": pay}


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_approves_from_elsewhere_and_later(store: str, answer: bool) -> None:
    async def ask(runtime: weft.Runtime) -> str:
        run = await runtime.start(calls, call("send", to="eve"))
        await parked(runtime, run.id)
        return run.id

    async def reply(runtime: weft.Runtime) -> None:
        (question,) = await runtime.questions()
        assert question.text == 'send wants to run with {"to":"eve","text":"hello"}. Allow it?'
        with pytest.raises(BadInput):
            await runtime.answer(question.id, "perhaps")
        await runtime.answer(question.id, answer, who="ann")

    async def go_on(runtime: weft.Runtime) -> list[ToolResult]:
        found: list[ToolResult] = await (await runtime.resume(id))
        return found

    id = drive(store, ask)
    assert ran == []
    drive(store, reply)
    (result,) = drive(store, go_on)
    assert ran == (["eve"] if answer else [])
    assert result.error is not answer
    assert ("sent to eve" if answer else "is denied (a person said no") in result.text


def test_only_what_the_predicate_says_is_asked_about(place: str) -> None:
    policy = weft.Policy(base="program", approvals=weft.Approvals(queue="desk", timeout=0.05))
    assert run(place, pay, policy=policy, amount=100).text == "paid"
    refused = run(place, pay, policy=policy, amount=101)
    assert (refused.error, ran) == (True, [100])
    lenient = weft.Policy(base="program", approvals=weft.Approvals(timeout=0.05, otherwise="once"))
    assert run(place, pay, policy=lenient, amount=102).text == "paid"


def test_a_program_that_calls_it_asks_too_and_who_cannot_wait_is_refused(place: str) -> None:
    @weft.workflow
    async def program() -> str:
        return await send("bob")

    async def use(runtime: weft.Runtime) -> str:
        run = await runtime.start(program)
        question = await eventually(lambda: first(runtime))
        await runtime.answer(question.id, True)
        found: str = await run
        return found

    async def first(runtime: weft.Runtime) -> Any:
        return next(iter(await runtime.questions()), None)

    assert drive(place, use) == "sent to bob"
    with pytest.raises(NoProcess, match="to be approved by a person"):
        asyncio.run(send.call(call("send", to="eve")))
    assert ran == ["bob"]


def test_there_is_no_way_around_a_person(place: str) -> None:
    @weft.step
    async def helper(to: str) -> str:
        return await send(to)

    @weft.workflow
    async def program(how: str) -> Any:
        match how:
            case "step":
                return await helper("eve")
            case "map":
                return await weft.map(send, ["eve"])
            case "sealed":
                return (await send.sealed("eve")).open()
            case "options":
                return await send.options(timeout=3)("eve")
        return await send.renamed("mail").call(call("mail", to="eve"))

    policy = weft.Policy(base="program", approvals=weft.Approvals(timeout=0.01))
    for how in ("step", "map", "sealed", "options"):
        with pytest.raises(Denied, match=r"tool\.call of 'send' is denied"):
            drive(place, lambda runtime, how=how: runtime.run(program, how), policy=policy)
    assert drive(place, lambda runtime: runtime.run(program, "call"), policy=policy).error
    assert ran == []
    lenient = weft.Policy(base="program", approvals=weft.Approvals(timeout=0.01, otherwise="once"))
    assert drive(place, lambda runtime: runtime.run(program, "sealed"), policy=lenient) == "sent to eve"
    assert drive(place, lambda runtime: runtime.run(program, "map"), policy=lenient) == ["sent to eve"]


# --- hooks ------------------------------------------------------------------------------------------------------------


def hooked(place: str, before: Any = (), after: Any = (), **arguments: Any) -> ToolResult:
    return run(place, double.options(before=before, after=after), **arguments)


def test_a_hook_before_may_change_answer_or_refuse(place: str) -> None:
    async def more(call: ToolCall, context: ToolContext[Any]) -> ToolCall:
        await weft.sleep(0)  # it runs in the workflow, and may have effects
        assert isinstance(call.arguments, dict)
        assert context.process
        return msgspec.structs.replace(call, arguments={"x": call.arguments["x"] + 1})

    def answer(call: ToolCall, context: ToolContext[Any]) -> ToolResult:
        return ToolResult.of("another", "known already")

    def refuse(call: ToolCall, context: ToolContext[Any]) -> None:
        raise ToolRetry("not on a Thursday")

    def look(call: ToolCall, context: ToolContext[Any]) -> None:
        ran.append(call.arguments)

    def spoil(call: ToolCall, context: ToolContext[Any]) -> ToolCall:
        return msgspec.structs.replace(call, arguments={"x": "many"})

    assert hooked(place, [more, look, more], x=1).text == "6"
    assert ran == [{"x": 2}, 3]
    assert hooked(place, [answer, refuse], x=1) == ToolResult.of("c1", "known already", name="it")
    refused = hooked(place, [refuse], x=1)
    assert (refused.error, refused.text) == (True, "not on a Thursday")
    assert "x: Input should be a valid integer" in hooked(place, [spoil], x=1).text
    assert "y: there is no such parameter" in hooked(place, [look], y=1).text
    assert ran == [{"x": 2}, 3]


def test_a_hook_after_may_change_what_the_model_sees(place: str) -> None:
    def hide(call: ToolCall, result: ToolResult, context: ToolContext[Any]) -> ToolResult:
        return ToolResult.of(result.id, f"({result.text})", error=result.error)

    async def leave(call: ToolCall, result: ToolResult, context: ToolContext[Any]) -> None:
        ran.append(result.error)

    assert hooked(place, after=[leave, hide, hide], x=1).text == "((2))"
    assert hooked(place, after=[hide], x="?").error
    assert ran == [1, False]


@pytest.mark.parametrize("hooks", [{"before": [lambda *_: 3]}, {"after": [lambda *_: call(x=2)]}])
def test_a_hook_that_is_wrong_ends_the_program(place: str, hooks: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"the hook .* returned"):
        hooked(place, **hooks, x=1)

    def fails(*_: Any) -> None:
        raise KeyError("no such thing")

    with pytest.raises(KeyError):
        hooked(place, [fails], x=1)


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_tool_that_hangs_is_ended_by_its_time_limit(place: str) -> None:
    stop = threading.Event()

    @tool(timeout=0.05)
    async def hangs() -> None:
        await asyncio.sleep(60)

    @tool(timeout=0.05)
    def hangs_too() -> None:
        stop.wait(20)

    for made in (hangs, hangs_too):
        result = run(place, made)
        assert result.error
        assert "did not finish within 0.05 s" in result.text
    stop.set()

    @weft.workflow
    async def program() -> None:
        await hangs()

    with pytest.raises(StepTimeout):
        drive(place, lambda runtime: runtime.run(program))


def test_an_exception_reaches_the_model_without_traceback_and_secrets(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "sk-1234567890abcdef")

    @tool
    async def fails(how: str) -> None:
        if how == "key":
            raise ValueError(f"401: the key {os.environ['SHOP_API_KEY']} is wrong")
        if how == "long":
            raise RuntimeError("x" * 1_000_000)
        error = ConnectionError("the shop is closed")
        error.add_note("it opens at nine")
        raise error

    assert run(place, fails, how="").text == "ConnectionError: the shop is closed\nit opens at nine"
    assert run(place, fails, how="key").text == "ValueError: 401: the key [secret:SHOP_API_KEY] is wrong"
    assert len(run(place, fails, how="long").text) < 5_000
    outside = asyncio.run(fails.call(call("fails", how="key")))
    assert outside.text == "ValueError: 401: the key [secret:SHOP_API_KEY] is wrong"


def test_errors_that_say_what_to_do_are_not_tried_again(place: str) -> None:
    @tool(retries=weft.Retry(attempts=3, delay=0.001))
    async def tries(context: ToolContext[Any], what: str) -> str:
        ran.append(context.attempt)
        if what == "retry":
            raise ToolRetry("give the full name")
        if context.attempt < 3:
            raise ConnectionError("lost")
        return "found"

    result = run(place, tries, what="retry")
    assert (result.error, result.text, ran) == (True, "give the full name", [1])
    assert run(place, tries, what="other").text == "found"
    assert ran == [1, 1, 2, 3]


def test_what_is_no_affair_of_the_models_is_raised(place: str) -> None:
    @weft.workflow
    async def spends() -> ToolResult:
        return await double.call(call(x=1))

    with pytest.raises(BudgetExceeded):
        drive(place, lambda runtime: runtime.run(spends.options(budget=weft.Budget(effects=0))))

    @tool
    async def stuck() -> None:
        await asyncio.sleep(60)

    @weft.workflow
    async def gives_up() -> str:
        try:
            async with asyncio.timeout(0.05):
                await stuck.call(call("stuck"))
        except TimeoutError:
            return "gave up"
        return ""

    assert drive(place, lambda runtime: runtime.run(gives_up)) == "gave up"


# --- what comes back --------------------------------------------------------------------------------------------------

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@dataclasses.dataclass
class Found:
    name: str
    at: datetime.date


class Model(BaseModel):
    name: str
    path: Path


class Drawn:
    def _repr_png_(self) -> bytes:
        return PNG


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


def words(text: str) -> tuple[Content, ...]:
    return (Text(content=text),)


IMAGE = Blob(modality="image", mime_type="image/png", content=PNG)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (None, ()),
        ("wörds", words("wörds")),
        ("", words("")),
        ("\x1b[31mred\x1b[0m\tand\r\nmore\x07", words("red\tand\r\nmore")),
        (3, words("3")),
        (True, words("true")),
        ([1, "a", None], words('[1,"a",null]')),
        ({"a": (1, 2)}, words('{"a":[1,2]}')),
        ({(1, 2): 3}, words('{"[1, 2]":3}')),
        (Found("x", datetime.date(2026, 11, 26)), words('{"name":"x","at":"2026-11-26"}')),
        ([Model(name="x", path=Path("a/b"))], words('[{"name":"x","path":"a/b"}]')),
        (Path("a/b"), words('"a/b"')),
        (Odd(), words('"<odd>"')),
        ({"odd": Odd()}, words('{"odd":"<odd>"}')),
        (float("nan"), words("null")),
        (b"plain text", words("plain text")),
        (PNG, (IMAGE,)),
        (b"RIFF....WAVE", (Blob.of(b"RIFF....WAVE", "audio/wav"),)),
        (b"\xff\x00\xfe", (Blob.of(b"\xff\x00\xfe", "application/octet-stream"),)),
        (Drawn(), (IMAGE,)),
        (["see", Drawn(), {"a": 1}, None], (*words("see"), IMAGE, *words('{"a":1}'))),
        (IMAGE, (IMAGE,)),
        ((Text(content="a"), Uri(modality="image", uri="x:y")), (*words("a"), Uri(modality="image", uri="x:y"))),
    ],
)
def test_a_value_of_any_type_is_shown(value: Any, parts: tuple[Content, ...]) -> None:
    assert parts_of(value, 1000) == parts


def test_a_result_made_by_the_tool_is_the_result(place: str) -> None:
    @tool
    async def makes() -> ToolResult:
        return ToolResult(id="mine", response=(IMAGE,), error=True)

    assert run(place, makes) == ToolResult(id="c1", name="it", response=(IMAGE,), error=True)


def test_fifty_megabytes_are_shown_in_part_and_kept_and_a_picture_of_that_size_is_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_OUTPUTS", str(tmp_path / "outputs"))

    @tool(limit=1000)
    async def large(what: str) -> Any:
        match what:
            case "text":
                return "a\n" * 12_500_000 + "b\n" * 12_500_000
            case "list":
                return ["x" * 1000] * 50_000
        return Blob.of(PNG + bytes(50_000_000), "image/png", name="map.png")

    policy = weft.Policy(base="program")  # it is not the tool that writes
    text = run(place, large, policy=policy, what="text").text
    told = r"\[\.\.\. .* lines 251 to 24,999,75. of 25,000,000, left out; output\.read\('(\w+)', 251\) .*\.\.\.\]\n"
    found = re.fullmatch(rf"(?:a\n){{250}}{told}(?:b\n){{249,250}}", text)
    assert found
    page = asyncio.run(builtin.read_output(found[1], 12_500_000, 2))
    assert page.startswith("12500000\ta\n12500001\tb\n")
    assert len(run(place, large, what="list").text) < 1300
    assert run(place, large, what="image").text == "[image/png 'map.png' of 47.7 MB: too large to be shown]"
    assert Path(place).stat().st_size < 5_000_000


# --- the context ----------------------------------------------------------------------------------------------------


def test_the_context_says_where_a_tool_is_and_carries_what_the_agent_gave(place: str) -> None:
    class Connection:
        """What no journal can hold."""

        lock = threading.Lock()

    @tool
    async def use(context: ToolContext[Connection], x: int) -> list[Any]:
        with context.deps.lock:
            context.progress(1, 2, "half")
        return [context.call, context.process != "", context.attempt, x]

    @tool
    def use_too(x: int, context: ToolContext[Connection]) -> int:
        context.progress(x)
        return x

    both = Toolset(use, use_too)
    heard: list[Progress] = []

    @weft.workflow
    async def program() -> list[ToolResult]:
        pair = [call("use", "a", x=1), call("use_too", "b", x=2)]
        return await both.call_all(pair, deps=Connection(), report=heard.append)

    found = drive(place, lambda runtime: runtime.run(program))
    assert [one.text for one in found] == ['["a",true,1,1]', "2"]
    assert sorted(heard) == [(1, 2, "half"), (2, None, "")]


# --- many calls -----------------------------------------------------------------------------------------------------


class Clock:
    """How many are under way, and how many were at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.begun: list[int] = []

    async def __call__(self, x: int, seconds: float = 0.02) -> int:
        self.begun.append(x)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(seconds)
        self.now -= 1
        return x


@pytest.mark.parametrize(
    ("options", "at_once", "most"),
    [({}, None, 4), ({"effect": "pure"}, 2, 2), ({"order": "ordered"}, None, 1), ({"order": "commutes"}, 3, 3)],
)
def test_calls_run_beside_each_other_as_far_as_they_may(
    place: str, options: dict[str, Any], at_once: int | None, most: int
) -> None:
    clock = Clock()

    async def tick(x: int) -> int:
        return await clock(x)

    tools = Toolset(Tool(tick, **options))

    @weft.workflow
    async def program() -> list[ToolResult]:
        return await tools.call_all([call("tick", str(x), x=x) for x in range(4)], at_once=at_once)

    found = drive(place, lambda runtime: runtime.run(program))
    assert [(one.id, one.text) for one in found] == [(str(x), str(x)) for x in range(4)]
    assert clock.most == most
    if most == 1:
        assert clock.begun == [0, 1, 2, 3]


def test_ordered_calls_wait_for_each_other_and_for_no_others(place: str) -> None:
    order: list[str] = []

    @tool(order="ordered")
    async def write(x: int) -> None:
        await asyncio.sleep(0.05 / (x + 1))
        order.append(f"write {x}")

    @tool(effect="pure")
    async def read(x: int) -> None:
        order.append(f"read {x}")

    tools = Toolset(write, read)

    @weft.workflow
    async def program() -> list[ToolResult]:
        return await tools.call_all(
            [call("write", "1", x=0), call("read", "2", x=1), call("write", "3", x=9), call("nothing", "4")]
        )

    found = drive(place, lambda runtime: runtime.run(program))
    assert order == ["read 1", "write 0", "write 9"]
    assert [one.error for one in found] == [False, False, False, True]


notes = weft.Memory("tools.notes")


def test_in_an_operation_at_l3_effects_take_place_in_the_order_of_the_calls(place: str) -> None:
    @tool(order="staged")
    async def stage(x: int) -> int:
        await asyncio.sleep(0.03 / (x + 1))
        await weft.turn()
        ran.append(x)
        return x

    tools = Toolset(stage, double)

    @weft.workflow
    async def program() -> list[ToolResult]:
        async with notes.operation(level="L3"):
            return await tools.call_all([call("stage", x=0), call("double", x=1), call("stage", x=2)])

    assert [one.text for one in drive(place, lambda runtime: runtime.run(program))] == ["0", "2", "2"]
    assert ran == [0, 1, 2]


def test_an_unknown_tool_is_told_with_the_nearest(place: str) -> None:
    result = asyncio.run(Toolset(double, send).call(call("doubel", x=1)))
    assert (result.error, result.id, result.name) == (True, "c1", "doubel")
    assert result.text == "there is no tool 'doubel'; did you mean 'double'? Tools: double, send."


def test_what_ends_one_call_for_good_cancels_the_others(place: str) -> None:
    cancelled: list[bool] = []

    @tool
    async def stuck() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def later(*_: Any) -> None:
        await weft.sleep(0.05)

    tools = Toolset(stuck, double.options(before=[later]))

    @weft.workflow
    async def program() -> list[ToolResult]:
        return await tools.call_all([call("stuck"), call(x=1)])

    began = time.monotonic()
    with pytest.raises(BudgetExceeded):
        drive(place, lambda runtime: runtime.run(program.options(budget=weft.Budget(effects=1))))
    assert time.monotonic() - began < 30
    assert cancelled == [True]
    with pytest.raises(BadInput, match="at least one"):
        asyncio.run(tools.call_all([], at_once=0))
    assert asyncio.run(tools.call_all([])) == []
