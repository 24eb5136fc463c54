"""Programs that models write: checked before they run, each call an effect, limits, escapes, kills, days of waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import weft
from tests.programs import drive, parked, until_dead
from tests.stores import eventually
from weft.agent import Agent
from weft.agent.program import Granted, Limits, Performed, ProgramFailed, RunProgram, perform
from weft.agent.program.plain import NotPlain, plain, value_of
from weft.agent.program.slice import Sliced, Spent, digest_of
from weft.agent.program.slice import Text as AsText
from weft.core.codec import decode_args
from weft.core.content import Blob, Text, ToolCall, ToolResult
from weft.core.errors import BadInput, BudgetExceeded, NoProcess, SandboxMissing
from weft.core.record import Outcome
from weft.model.request import Request
from weft.runtime.sandbox import Availability
from weft.runtime.sandbox.monty import Monty
from weft.tool import Tool, Toolset, tool

pytest.importorskip("pydantic_monty", reason="programs run in the embedded Python of weft[sandbox]")
ROOT = Path(__file__).parents[1]
ran: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


@dataclasses.dataclass
class Hit:
    name: str
    score: float = 0.0


@tool
async def search(query: str, limit: int = 2) -> list[Hit]:
    """Search the archive.

    Args:
        query: Words to look for.
    """
    ran.append(query)
    if query == "bad":
        raise ValueError("nothing is called bad")
    return [Hit(f"{query}{i}", i / 2) for i in range(limit)]


@tool
def fetch(url: str) -> str:
    ran.append(url)
    return f"<{url}>"


TOOLS: dict[str, Any] = {"tools": Toolset(search, fetch), "limits": None}


@weft.workflow(name="programs.run")
async def runs(text: str, inputs: dict[str, Any] | None = None) -> Performed:
    return await perform(text, TOOLS["tools"], inputs=inputs, limits=TOOLS["limits"])


@weft.workflow(name="programs.tell")
async def tells(*texts: str) -> list[str]:
    """What the author of each is told, in JSON."""
    called = RunProgram(TOOLS["tools"], limits=TOOLS["limits"])
    found = []
    for text in texts:
        result = await called.call(ToolCall(id="c1", name="run_program", arguments={"program": text}))
        found.append(f"{'failed: ' if result.error else ''}{result.text}")
    return found


def told(place: str, *texts: str, tools: Toolset | None = None, limits: Limits | None = None) -> list[str]:
    TOOLS.update(tools=tools or Toolset(search, fetch), limits=limits)
    found: list[str] = drive(place, lambda runtime: runtime.run(tells, *texts))
    return found


def performed(place: str, text: str, inputs: dict[str, Any] | None = None, *tools: Tool[..., Any]) -> Performed:
    TOOLS.update(tools=Toolset(*(tools or (search, fetch))), limits=None)
    found: Performed = drive(place, lambda runtime: runtime.run(runs, text, inputs))
    return found


# --- what a program can do ------------------------------------------------------------------------------------------


def test_a_program_calls_tools_and_sees_their_values_as_data(place: str) -> None:
    text = """
import asyncio
found = await asyncio.gather(*[search(word, limit=3) for word in ["a", "b"]])
best = max((hit for hits in found for hit in hits), key=lambda hit: hit["score"])
print(len(found))
page = await fetch(best["name"])
{"best": best, "page": page, "nothing": None}
"""
    best = {"name": "a2", "score": 1.0}
    assert performed(place, text) == ({"best": best, "page": "<a2>", "nothing": None}, "2\n", 3)
    assert ran == ["a", "b", "a2"]


def test_calls_made_before_it_waits_run_beside_each_other(place: str) -> None:
    meeting: list[asyncio.Event] = []

    @tool(effect="pure")
    async def meet(n: int) -> int:
        meeting.append(asyncio.Event())
        if len(meeting) == 3:
            for one in meeting:
                one.set()
        await asyncio.wait_for(meeting[n].wait(), 10)
        return n

    assert performed(place, "import asyncio\nawait asyncio.gather(meet(0), meet(1), meet(2))", None, meet).value == [
        *(0, 1, 2)
    ]


def test_at_most_so_many_calls_run_at_a_time(place: str) -> None:
    now, most = [0], [0]

    @tool(effect="pure")
    async def busy(n: int) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.005)
        now[0] -= 1

    text = "import asyncio\nlen(await asyncio.gather(*[busy(n) for n in range(12)]))"
    assert told(place, text, tools=Toolset(busy), limits=Limits(at_once=3)) == ["12"]
    assert most == [3]


def test_tools_in_turn_wait_for_each_other(place: str) -> None:
    @tool(order="ordered")
    async def write(n: int) -> None:
        ran.append(("begin", n))
        await asyncio.sleep(0.01 * (3 - n))
        ran.append(("end", n))

    performed(place, "import asyncio\nawait asyncio.gather(*[write(n) for n in range(3)])", None, write)
    assert ran == [(word, n) for n in range(3) for word in ("begin", "end")]


def test_main_is_called_with_the_inputs(place: str) -> None:
    assert performed(place, "async def main(n: int, word: str = 'x'):\n    return word * n", {"n": 3}).value == "xxx"
    assert performed(place, "inputs['n'] + 1", {"n": 3}).value == 4
    named = "async def main():\n    return type(main).__name__"
    assert performed(place, named).value == "function"
    guarded = (
        "import asyncio\nasync def main():\n    print('once')\nif __name__ == '__main__':\n    asyncio.run(main())"
    )
    assert performed(place, guarded).printed == "once\n"


def test_a_failed_call_is_an_exception_that_the_program_can_catch(place: str) -> None:
    text = "try:\n    await search('bad')\nexcept RuntimeError as error:\n    caught = str(error)\ncaught"
    assert performed(place, text).value == "ValueError: nothing is called bad"
    (found,) = told(place, "x = 1\nawait search('bad')")
    assert 'program.py", line 2' in found
    assert found.startswith("failed: ") and "nothing is called bad" in found


def test_its_clock_and_its_chance_are_the_processs(place: str) -> None:
    text = """
import asyncio, datetime, random, time
before, drawn = time.time(), random.random()
a = datetime.datetime.now(datetime.timezone.utc).timestamp()
same = abs(a - before) < 0.001 and time.monotonic() == before
await asyncio.sleep(0.05)
[same, time.time() - before >= 0.05, drawn, random.random(), datetime.date.today().isoformat()]
"""
    (first, slept, *drawn, day), (_, _, *other, _) = performed(place, text).value, performed(place, text).value
    assert first and slept
    assert datetime.date.fromisoformat(day)
    assert all(0 <= one < 1 for one in [*drawn, *other]) and drawn != other


def test_what_is_not_waited_for_is_given_up_and_told(place: str) -> None:
    done = performed(place, "import asyncio\nnever = asyncio.sleep(1000)\nfirst = await search('x')\n5")
    assert "1 calls were not waited for" in done.printed
    assert "asyncio.sleep in line 2" in done.printed


# --- each call is an effect -----------------------------------------------------------------------------------------


def test_the_journal_has_each_call_once_with_its_line(place: str) -> None:
    async def use(runtime: weft.Runtime) -> list[Outcome]:
        run = await runtime.start(runs, "import asyncio\nawait asyncio.gather(\n  search('a'),\n  fetch('b'))\n1")
        await run
        return [one for one in await runtime.recovery.records(run.id) if isinstance(one, Outcome)]

    TOOLS.update(tools=Toolset(search, fetch), limits=None)
    records = drive(place, use)
    assert [(one.kind, one.name) for one in records][:2] == [("random", "random"), ("step", "program.begin")]
    calls = {one.name: one for one in records if one.kind == "step" and not one.name.startswith("program.")}
    assert {name: one.place for name, one in calls.items()} == {"search": "program.py:3", "fetch": "program.py:4"}
    assert decode_args(calls["search"].args)[1] == {"query": "a"}  # type: ignore[arg-type]


def test_rights_are_those_of_the_process(place: str) -> None:
    TOOLS.update(tools=Toolset(search, fetch), limits=None)
    policy = weft.Policy(base="all", deny=("tool.call:fetch",))
    text = "try:\n    await fetch('x')\nexcept RuntimeError as error:\n    print(error)\nlen(await search('y'))"
    done: Performed = drive(place, lambda runtime: runtime.run(runs, text), policy=policy)
    assert done.value == 2
    assert "not allowed: tool.call of 'fetch' is denied" in done.printed
    assert ran == ["y"]


def test_the_budget_is_that_of_the_process(place: str) -> None:
    @tool(cost={"money": 0.4})
    async def dear(n: int) -> int:
        ran.append(n)
        return n

    TOOLS.update(tools=Toolset(dear), limits=None)
    limited = runs.options(budget=weft.Budget(money=1.0))
    text = "try:\n    for n in range(5):\n        await dear(n)\nexcept Exception:\n    pass\n'went on'"
    with pytest.raises(BudgetExceeded):
        drive(place, lambda runtime: runtime.run(limited, text))
    assert ran == [0, 1]


def test_hooks_see_the_calls_of_programs_too(place: str) -> None:
    def before(call: ToolCall, context: Any) -> ToolCall | ToolResult | None:
        if call.arguments["url"] == "secret":  # type: ignore[index]
            return ToolResult.of(call.id, "that is not for you", name=call.name, error=True)
        return None

    def after(call: ToolCall, result: ToolResult, context: Any) -> ToolResult:
        return ToolResult.of(call.id, result.text.upper(), name=call.name)

    named = "async def main():\n    return type(main).__name__"
    assert performed(place, named).value == "function"
    guarded = tool(before=(before,), after=(after,))(fetch.written)
    assert performed(place, "await fetch('a')", None, guarded).value == "<A>"
    (found,) = told(place, "await fetch('secret')", tools=Toolset(guarded))
    assert "that is not for you" in found.casefold()
    assert ran == ["a"]


def test_a_person_is_asked_and_days_may_pass(store: str) -> None:
    @tool(approval=True)
    async def pay(amount: int) -> str:
        ran.append(amount)
        return f"paid {amount}"

    text = """
async def main():
    seen = await search("x")
    told = await pay(len(seen))
    return [told, seen[0]["name"]]
"""

    async def asks(runtime: weft.Runtime) -> str:
        run = await runtime.start(runs, text)
        await parked(runtime, run.id)
        return run.id

    async def answers(runtime: weft.Runtime) -> Any:
        run = await runtime.resume(id)
        (question,) = await eventually(runtime.questions)
        assert "pay wants to run with" in question.text
        await runtime.answer(question.id, True)
        return await run

    TOOLS.update(tools=Toolset(search, pay), limits=None)
    id = drive(store, asks)
    assert ran == ["x"]
    assert drive(store, answers).value == ["paid 2", "x0"]
    assert ran == ["x", 2]


KILLED = """
import asyncio, os, sys
import weft
from weft.agent.program import perform
from weft.tool import Toolset, tool

@tool
async def work(n: int) -> int:
    await asyncio.sleep(0.002 * (n % 7))
    with open(sys.argv[2], "a") as file:
        file.write(f"{n}\\n")
    return n * n

TEXT = '''
import asyncio, random
async def one(n: int) -> int:
    return await work(n) + await work(100 + n)
first = await asyncio.gather(*[one(n) for n in range(15)])
drawn = [random.randrange(1000) for _ in range(3)]
await work(200)
[sum(first), drawn == sorted(drawn), len(drawn)]
'''

@weft.workflow(name="programs.killed")
async def killed() -> list:
    return (await perform(TEXT, Toolset(work))).value

async def main():
    async with weft.Runtime(sys.argv[1]) as runtime:
        print("started", flush=True)
        print(await runtime.run(killed.options(key="it")), flush=True)

asyncio.run(main())
"""


def test_a_killed_program_goes_on_and_makes_no_finished_call_again(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    place, log = str(tmp_path / "journal.db"), tmp_path / "log"
    words = [sys.executable, str(tmp_path / "killed.py"), place, str(log)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}

    def finished() -> set[str]:
        async def look(runtime: weft.Runtime) -> set[str]:
            rows = await runtime.store.rows(limit=10)
            records = [one for row in rows for one in await runtime.recovery.records(row.id)]
            done = [one for one in records if isinstance(one, Outcome) and one.name == "work"]
            return {str(decode_args(one.args)[1]["n"]) for one in done}  # type: ignore[arg-type]

        return drive(place, look)  # type: ignore[no-any-return]

    out = ""
    for delay in (0.2, 0.35, 30.0):
        before = log.read_text().split() if log.exists() else []
        settled = finished() if log.exists() else set()
        with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                out, _ = child.communicate(timeout=delay)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.communicate()
        until_dead(place)
        again = log.read_text().split()[len(before) :] if log.exists() else []
        assert not settled & {*again}
        if out.strip():
            break
    assert out.startswith(f"[{sum(n * n + (100 + n) ** 2 for n in range(15))}, ")
    assert {*log.read_text().split()} == {str(n) for n in [*range(15), *range(100, 115), 200]}


# --- agents ---------------------------------------------------------------------------------------------------------


def test_an_agent_mends_its_program_by_what_it_is_told() -> None:
    def script(request: Request) -> Any:
        last = request.messages[-1]
        results = [part for part in last.parts if isinstance(part, ToolResult)]
        if not results:
            return [ToolCall(id="a", name="run_program", arguments={"program": "hits = search('x')\nhits[0]['nam']"})]
        if results[0].error:
            assert "line 1" in results[0].text or "line 2" in results[0].text
            return [ToolCall(id="b", name="run_program", arguments={"program": "(await search('x'))[0]['name']"})]
        return f"It is {results[0].text}."

    weft.model.script(script, name="writer")
    helper = Agent("script:writer", name="writer", tools=[RunProgram(search, fetch)])
    answer = weft.run(helper, "What is first?")
    assert answer.output == "It is x0."
    assert answer.turns == 3
    assert ran == ["x"]  # nothing of the first one ran


def test_a_program_calls_agents(place: str) -> None:
    weft.model.script(lambda request: f"about {request.messages[-1].text}", name="sub")
    sub = Agent("script:sub", name="expert", description="Knows all.").as_tool()
    text = "import asyncio\nawait asyncio.gather(*[ask_expert(word) for word in ['a', 'b']])"
    assert performed(place, text, None, sub).value == ["about a", "about b"]


@pytest.mark.skipif(sys.platform != "linux", reason="servers of MCP run in the process wall, which is of Linux")
def test_a_program_calls_the_tools_of_a_server(workspace: Path, place: str) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed: pip install 'weft[mcp]'")
    from weft.tool.mcp import Server, connect

    script = str(ROOT / "tests" / "servers" / "mcp_plain.py")
    server = Server("plain", command=[sys.executable, script], read=[script])

    @weft.workflow(name="programs.of_server")
    async def program() -> Any:
        tools = await server.tools()
        text = "import asyncio\nawait asyncio.gather(*[add(a=n, b=2) for n in range(3)])"
        return (await perform(text, tools)).value

    async def use(runtime: weft.Runtime) -> Any:
        try:
            return await runtime.run(program)
        finally:
            await connect.close()

    assert drive(place, use, policy=weft.Policy(base="all")) == ["2", "3", "4"]


def test_the_model_is_shown_the_tools_as_functions() -> None:
    spec = RunProgram(search, fetch).spec
    assert spec.name == "run_program"
    assert "async def search(query: str, limit: int = ...) -> list[Hit]:" in spec.description
    assert "Words to look for." in spec.description
    assert [*spec.schema["properties"]] == ["program"]
    short = RunProgram(search, description="Only this.", name="go").spec
    assert short.name == "go" and short.description.startswith("Only this.\n") and "search(" in short.description


def test_a_person_may_see_each_program_first(place: str) -> None:
    careful = RunProgram(search, approval=True)

    @weft.workflow(name="programs.careful")
    async def program() -> Any:
        return await careful("len(await search('x'))")

    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(program)
        (question,) = await eventually(runtime.questions)
        assert "await search('x')" in question.text
        await runtime.answer(question.id, True)
        return await run

    assert drive(place, use) == 2


def test_hooks_see_programs_before_they_run_and_what_comes_of_them(place: str) -> None:
    def before(call: ToolCall, context: Any) -> ToolResult | None:
        if "fetch" in str(call.arguments):
            return ToolResult.of(call.id, "no program fetches here", name=call.name, error=True)
        return None

    def after(call: ToolCall, result: ToolResult, context: Any) -> ToolResult:
        return ToolResult.of(call.id, f"seen: {result.text}", name=call.name, error=result.error)

    careful = RunProgram(search, fetch, before=[before], after=[after]).options(name="run_it")
    programs = iter(["await fetch('x')", "len(await search('x'))"])

    def script(request: Request) -> Any:
        text = next(programs, None)
        return "Done." if text is None else [ToolCall(id="a", name="run_it", arguments={"program": text})]

    weft.model.script(script, name="hooked")
    answer = drive(place, lambda r: r.run(Agent("script:hooked", name="hooked", tools=[careful]), "Go."))
    found = [result.text for message in answer.messages for result in message.results]
    assert found == ["seen: no program fetches here", "seen: 2"] and ran == ["x"]


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(BadInput, match="no tool"):
        RunProgram()
    with pytest.raises(BadInput, match="takes name"):
        RunProgram(search, retries=3)
    with pytest.raises(BadInput, match="above 0"):
        Limits(calls=0)
    with pytest.raises(BadInput, match="above 0"):
        Limits(seconds=float("nan"))
    with pytest.raises(NoProcess):
        asyncio.run(RunProgram(search).call(ToolCall(id="c", name="run_program", arguments={"program": "1"})))


# --- what is checked before -----------------------------------------------------------------------------------------


def test_a_program_that_does_not_fit_is_told_so_before_it_runs(place: str) -> None:
    wrong = {
        "await search(3)": "line 1: Argument to function `search` is incorrect: Expected `str`",
        "await fetch('x')\nawait search('x', limt=4)": "line 2: Argument `limt` does not match any known parameter",
        "(await search('x'))[0]['nam']": "did you mean",
        "(await search('x'))[0].name": "line 1",
        "def best(hit: Hit): return hit\nhit = {'name': 'x'}\nbest(hit)": "annotate the variable",
        "fetch('x')": "write `await` before it",
        "await fetch('x')\nawait serch('y')": "line 2: Name `serch` used when not defined",
        "x = (\n1 +": "line 2",
        "import numpy": "Cannot resolve imported module",
    }
    found = told(place, *wrong)
    for (text, words), got in zip(wrong.items(), found, strict=True):
        assert got.startswith("failed: "), text
        assert words in got, (text, got)
    assert "async def search(query: str, limit: int = ...) -> list[Hit]" in found[0]
    assert ran == []


def test_a_text_that_is_no_program_is_told_so(place: str) -> None:
    for text, words in {
        "": "a text of Python",
        " \n": "a text of Python",
        "1\0": "NUL",
        "x" * 100_001: "at most",
    }.items():
        assert words in told(place, text)[0]

    @weft.workflow(name="programs.malformed")
    async def malformed() -> str:
        call = ToolCall(id="c", name="run_program", arguments={"code": "1"})
        return (await RunProgram(search).call(call)).text

    assert "program" in drive(place, lambda runtime: runtime.run(malformed))


class Colour(enum.Enum):
    RED = "red"


class Inner(BaseModel):
    """A tree."""

    at: datetime.datetime
    more: list[Inner] = []


class Row(TypedDict, total=False):
    id: int
    tags: dict[str, list[int]]


class Thing(msgspec.Struct):
    colour: Colour
    kind: Literal["a", "b"] = "a"


def returning(hint: Any, taking: Any = int) -> Tool[..., Any]:
    async def made(x: Any) -> Any: ...

    made.__annotations__ = {"x": taking, "return": hint}
    return tool(made)


@pytest.mark.parametrize(
    ("hint", "declared"),
    [
        (str, "str"),
        (str | None, "str | None"),
        (None, "None"),
        (int | None, "int | None"),
        (Any, "str"),
        (list[int], "list[int]"),
        (dict[str, float], "dict[str, float]"),
        (tuple[int, ...], "list[int]"),
        (set[str], "list[str]"),
        (Literal["a", "b"], "str"),
        (Literal[1, 2], "Literal[1, 2]"),
        (Colour, "Literal['red']"),
        (Inner, "Inner"),
        (Row, "Row"),
        (Thing, "Thing"),
        (Blob, "str | bytes"),
        (bytes | None, "str | bytes | None"),
        (list[Blob | Text], "str | bytes | list[str | bytes] | None"),
        (Annotated[int, Field(ge=0)], "int"),
        (object(), "Any"),
        ("Nowhere", "str"),
    ],
)
def test_results_are_declared_as_the_program_sees_them(hint: Any, declared: str) -> None:
    assert f"async def made(x: int) -> {declared}:" in Granted(returning(hint)).text


def test_the_parameters_are_declared_by_their_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "first": {"type": "string", "description": "The first."},
            "maybe": {"type": ["integer", "null"]},
            "last": {"enum": ["x", "y"]},
            "more": {"type": "object", "properties": {"not-a-name": {"type": "boolean"}}},
        },
        "required": ["first", "last"],
    }

    async def any(**arguments: Any) -> str:
        return ""

    text = Granted(tool(name="server/do it.now", schema=schema)(any).renamed("server/do-it")).text
    assert (
        "async def server_do_it(first: str, maybe: int | None = ..., *, last: Literal['x', 'y'], more: ServerDoItMore "
        "= ...) -> str:"
    ) in text
    assert "ServerDoItMore = TypedDict(\"ServerDoItMore\", {'not-a-name': NotRequired[bool]})" in text
    assert "first: The first." in text
    odd = tool(name="odd", schema={"properties": {"a-b": {}}})(any)
    assert "async def odd(**arguments: Any)" in Granted(odd).text
    both = Granted(search.renamed("print"), search.renamed("a.b"), search.renamed("a-b")).text
    assert all(f"async def {name}(" in both for name in ("tool_print", "a_b", "a_b_2"))
    assert both.count("class Hit") == 1


def test_declared_tools_can_be_called_as_declared(place: str) -> None:
    @tool
    async def odd(things: list[Thing], at: datetime.date, tree: Inner | None = None) -> Thing:
        ran.append((things, at, tree))
        return things[0]

    text = """
import datetime
tree: Inner = {"at": "2026-01-01T00:00:00Z", "more": [{"at": "2026-01-02T00:00:00Z", "more": []}]}
(await odd([{"colour": "red", "kind": "b"}], "2026-11-26", tree=tree))["colour"]
"""
    assert performed(place, text, None, odd).value == "red"
    ((things, at, tree),) = ran
    assert (things, at) == ([Thing(Colour.RED, "b")], datetime.date(2026, 11, 26))
    assert tree.more[0].at.day == 2


def test_pictures_are_bytes_and_long_texts_come_whole(place: str) -> None:
    png = b"\x89PNG\r\n\x1a\n"

    @tool
    async def draw() -> bytes:
        return png

    @tool(limit=100)
    async def long() -> str:
        return "x" * 5000

    done = performed(place, "[len(await draw()), len(await long())]", None, draw, long)
    assert done.value == [len(png), 5000]


# --- limits and escapes ---------------------------------------------------------------------------------------------


def test_programs_that_go_too_far_are_ended_and_told_why(place: str) -> None:
    far = {
        "while True: pass": "worked for more than 0.3 s",
        "try:\n    while True: pass\nexcept BaseException:\n    while True: pass": "worked for more than 0.3 s",
        "def f(): return f()\nf()": "RecursionError",
        "x = [0] * 10**9": "take more than 8 MB",
        "x = []\nwhile True: x.append('a' * 1000)": "take more than 8 MB",
        "import asyncio\nwhile True:\n    await asyncio.gather(*[fetch('x') for _ in range(30)])": "more than 40 calls",
        "for _ in range(1000):\n    x = fetch('x')": "in line 2: it made more than 40 calls",
        "import asyncio\nawait asyncio.sleep(float('inf'))": "a program sleeps for 60 seconds at most",
        "import time\ntime.sleep(1)": "use await asyncio.sleep",
        "x = ['a' * 1000 + str(n) for n in range(1500)]\nawait fetch('x')": "keep less in variables while you await",
        "x = 'a' * 60_000\nfor n in range(30):\n    await fetch('x')": "keep less in variables while you await",
        "(" * 3000: "failed",
        "x = " + "-" * 30_000 + "1": "program.py",
    }
    limits = Limits(seconds=0.3, memory=8 * 2**20, calls=40, sleep=60, kept=2**20)
    for text, got in zip(far, told(place, *far, limits=limits), strict=True):
        assert got.startswith("failed: ") and far[text] in got, (text[:80], got[:500])
        assert len(got) < 10_000


def test_what_it_prints_is_kept_up_to_a_limit(place: str) -> None:
    (found,) = told(place, "for _ in range(50):\n    print('x' * 99)", limits=Limits(output=1000))
    assert found.count("x") == 990
    assert "[... 4,000 characters more were printed]" in found


def test_results_that_are_long_are_shown_in_part(place: str) -> None:
    (found,) = told(place, "'y' * 1_000_000")
    assert "left out" in found and len(found) < 50_000


def test_programs_do_not_get_out(place: str, tmp_path: Path) -> None:
    ways = [
        f"open({str(tmp_path / 'x')!r}, 'w').write('ESCAPED')",
        "import os\nos.system('echo')",
        "import os\nprint(os.environ['PATH'])",
        "import os\nprint(os.listdir('/'))",
        "import pathlib\nprint(pathlib.Path('/etc/passwd').read_text())",
        "import subprocess",
        "import socket",
        "import ctypes",
        "import importlib\nimportlib.import_module('os')",
        "__import__('os').system('echo')",
        "().__class__.__base__.__subclasses__()",
        "search.__globals__",
        "(lambda: 0).__code__",
        "eval('__import__(\"os\")')",
        "exec('import subprocess')",
        "print(globals()['search'])",
        "getattr(search, '__self__')",
        "import sys\nsys.modules['os']",
        "import weft",
        "await search.call('x')",
    ]
    for text, got in zip(ways, told(place, *ways), strict=True):
        assert got.startswith("failed: "), (text, got)
    assert not (tmp_path / "x").exists()
    assert ran == []


def test_only_granted_tools_can_be_called(place: str) -> None:
    hidden = "try:\n    x = eval('fetch(\"x\")')\nexcept NameError as error:\n    x = str(error)\nx"
    assert told(place, hidden, tools=Toolset(search)) == ["name 'fetch' is not defined"]
    assert ran == []


def test_objects_do_not_leave_the_program(place: str) -> None:
    text = """
from typing import Any
class Own: pass
own: Any = Own()
told = []
things: list[Any] = [own, print, {(1, 2): 3}]
for given in things:
    try:
        await search(given)
    except TypeError as error:
        told.append(str(error))
told
"""
    found = performed(place, text).value
    assert len(found) == 3 and "an object of type Own" in found[0] and "as a key" in found[2]
    deep = "x = []\nfor _ in range(300):\n    x = [x]\nawait search(x)  # type: ignore"
    assert "nested more than" in told(place, deep)[0]


def test_a_secret_in_its_values_ends_it(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD_API_KEY", "sesame-sesame")
    (found,) = told(place, "x = 'sesame-' + 'sesame'\nawait fetch('y')\nx")
    assert "sesame-sesame" not in found
    assert "a secret of this machine" in found


words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)  # what moves a terminal is cut
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,  # JSON has no infinity
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values)
def test_plain_values_cross_as_they_are(value: Any) -> None:
    assert plain(value) == value


@settings(
    max_examples=3, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip
@given(values=st.lists(json_values, min_size=5, max_size=40))
def test_data_comes_back_as_it_was_given(place: str, values: list[Any]) -> None:
    @tool
    async def echo(x: list[Any]) -> list[Any]:
        return x

    values += [2**70, -(2**70), "\U0001f600"]
    assert performed(place, "await echo(inputs['x'])", {"x": values}, echo).value == values


def test_a_snapshot_that_cannot_be_read_is_told(place: str) -> None:
    async def main() -> None:
        text = AsText("await fetch('x')", ("fetch",), Granted(fetch).text, Limits())
        waiting = await Sliced(text, 0.0, Spent()).first(0.5)
        assert [(one.name, one.args, one.line) for one in waiting.calls] == [("fetch", ["x"], 1)]
        for state in (b"", b"of another version", waiting.state[:-3]):
            bad = msgspec.structs.replace(waiting, state=state, digest=digest_of(state))
            ended = await Sliced(text, 0.0, Spent()).next(bad, {})
            assert (ended.ended, "another version" in ended.told) == ("failed", True)

    asyncio.run(main())


def test_without_the_embedded_python_it_says_what_to_install(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Monty, "available", lambda self: Availability(False, "not there", fix="pip install weft[sandbox]")
    )
    with pytest.raises(SandboxMissing, match="pip install"):
        told(place, "1")


def test_values_of_results() -> None:
    text, picture = Text(content="[1]"), Blob.of(b"12", "image/png")
    one, two, none = (ToolResult(id="1", response=parts) for parts in ((text,), (text, picture), ()))
    assert [value_of(each, "data") for each in (one, two, none)] == [[1], ["[1]", b"12"], None]
    assert [value_of(each, "parts") for each in (one, two, none)] == ["[1]", ["[1]", b"12"], None]
    assert [value_of(each, "words") for each in (one, two, none)] == ["[1]", "[1]\n[image/png of 2 bytes]", ""]
    assert value_of(ToolResult.of("1", "no JSON"), "data") == "no JSON"
    with pytest.raises(NotPlain):
        plain(object())


def test_it_fails_with_words_for_its_author(place: str) -> None:
    TOOLS.update(tools=Toolset(search), limits=None)
    with pytest.raises(ProgramFailed, match="division by zero"):
        drive(place, lambda runtime: runtime.run(runs, "print('so far')\n1 / 0"))
    assert "so far" in told(place, "print('so far')\n1 / 0")[0]
