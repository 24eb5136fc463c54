"""Calls that outlast their turn: handles, results told as they come, waiting, references, lanes, and their ends."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import weft
from benchmarks.agents.clock import VirtualClock
from benchmarks.agents.overruns import Patient
from tests.programs import drive
from weft.agent import Agent, AgentEvent, Answer, Returned, latency
from weft.agent.conversation import said
from weft.agent.handles import MOST
from weft.agent.reference import named, references, resolved
from weft.core.content import ToolCall, ToolResult
from weft.core.errors import BadInput
from weft.core.record import Outcome, decode_records
from weft.model.request import Request
from weft.tool import ToolContext, Toolset, tool

# --- the scene --------------------------------------------------------------------------------------------------------

made: list[str] = []
"""What tools did, in order."""
gates: dict[str, asyncio.Event] = {}
given_up: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    for one in (made, gates, given_up):
        one.clear()


def gate(name: str) -> asyncio.Event:
    return gates.setdefault(name, asyncio.Event())


@tool(effect="pure", slow=True)
async def fetch(name: str) -> dict[str, Any]:
    """Fetch what comes when its gate is open."""
    try:
        await gate(name).wait()
    except asyncio.CancelledError:
        given_up.append(name)
        raise
    made.append(f"fetch {name}")
    return {"id": name.upper(), "sizes": [1, 2], "of": {"a name": name}}


@tool(effect="pure")
async def note(text: str) -> str:
    """Note something."""
    made.append(f"note {text}")
    return f"noted {text}"


@tool(effect="pure", slow=True, sources={"id": "fetch"})
async def use(id: str, size: int = 0) -> str:
    """Use what was fetched."""
    made.append(f"use {id} {size}")
    return f"used {id}"


def call(name: str, /, call_id: str = "", **arguments: Any) -> ToolCall:
    return ToolCall(id=call_id or f"{name}-{next(numbers)}", name=name, arguments=arguments)


numbers = iter(range(10**9))
Line = Callable[[Request], Any]


class Script:
    """A model that says one line a turn; functions among the lines are told the request. `requests`: what it got."""

    def __init__(self, *lines: Any) -> None:
        self.lines = lines
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Any:
        self.requests.append(request)
        line = self.lines[sum(message.role == "assistant" for message in request.messages)]
        found = line(request) if callable(line) else line
        return await found if asyncio.iscoroutine(found) else found

    def told(self, turn: int) -> str:
        """What was told to it last before this turn, from 0: the last tool and user messages."""
        texts: list[str] = []
        for message in reversed(self.requests[turn].messages):
            if message.role == "assistant":
                break
            texts.insert(0, message.text + "\n".join(result.text for result in message.results))
        return "\n".join(texts)


def talk(place: Any, script: Script, *tools: Any, prompt: str = "Go on.", **settings: Any) -> Answer[Any]:
    agent: Agent[str] = Agent(weft.model.script(script), tools=tools or (fetch, note, use), **settings)
    return drive(str(place), lambda runtime: runtime.run(agent, prompt))  # type: ignore[no-any-return]


def opens(*names: str, then: Any) -> Line:
    """Open these gates, let what waited there come back, then say this."""

    async def line(request: Request) -> Any:
        for name in names:
            gate(name).set()
            while f"fetch {name}" not in made:
                await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        return then

    return line


# --- told as it comes -------------------------------------------------------------------------------------------------


def test_a_slow_call_gives_a_handle_and_its_result_comes_later(store: str) -> None:
    script = Script(
        [call("fetch", name="a"), call("note", text="x")],
        opens("a", then=[call("note", text="y")]),
        "Done.",
    )
    answer = talk(store, script)
    assert answer.output == "Done." and answer.turns == 3
    assert made == ["note x", "fetch a", "note y"]
    assert script.told(1).startswith("h1: under way.") and "noted x" in script.told(1)
    assert '"id":"A"' in script.told(2) and "[h1] fetch: done at " in script.told(2)
    assert "s after the call" in script.told(2) and "Nothing else is under way." in script.told(2)


def test_prompts_only_grow(tmp_path: Path) -> None:
    script = Script(
        [call("fetch", name="a"), call("fetch", name="b")],
        opens("b", then=[call("note", text="y")]),
        opens("a", then=[call("wait")]),
        "Done?",
        "Done.",
    )
    talk(tmp_path / "journal.db", script)
    for before, after in zip(script.requests, script.requests[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages
        assert after.tools == before.tools
    assert script.told(2).index("[h2]") > 0 and "Under way: h1 (fetch, running, since " in script.told(2)


def test_an_agent_without_slow_tools_has_no_means_to_wait(tmp_path: Path) -> None:
    script = Script([call("note", text="x")], "Done.")
    talk(tmp_path / "journal.db", script, note)
    assert [spec.name for spec in script.requests[0].tools] == ["note"]
    script = Script([call("note", text="x"), call("wait")], "Done.")
    talk(tmp_path / "two.db", script, note, asynchronous=True)
    assert [spec.name for spec in script.requests[0].tools] == ["note", "wait", "poll", "cancel"]
    assert "[h1] note: done" in script.told(1)


def test_not_slow_means_that_it_is_waited_for(tmp_path: Path) -> None:
    script = Script([call("note", text="x")], "Done.")
    talk(tmp_path / "journal.db", script, note.options(slow=False), asynchronous=True)
    assert script.told(1) == "noted x"


def test_a_failure_is_told_as_a_result_is(tmp_path: Path) -> None:
    @tool(effect="pure", slow=True)
    async def fail() -> str:
        """Fail."""
        await asyncio.sleep(0)
        raise ValueError("no such page")

    script = Script([call("fail"), call("wait")], "Done.")
    talk(tmp_path / "journal.db", script, fail)
    assert "[h1] fail: failed at" in script.told(1) and "ValueError: no such page" in script.told(1)


def test_what_is_refused_at_once_is_told_at_once(tmp_path: Path) -> None:
    lines = [call("fetch", nam="a"), call("fetsh", name="a"), ToolCall(id="3", name="fetch", arguments='{"name": ')]
    script = Script(lines, "Done.")
    assert talk(tmp_path / "journal.db", script).turns == 2
    told = script.told(1)
    assert "nam: there is no such parameter" in told and "did you mean 'fetch'?" in told and "is no JSON" in told


def test_a_call_that_the_budget_does_not_cover_is_told(tmp_path: Path) -> None:
    dear = fetch.options(cost={"money": 5.0})
    script = Script([call("fetch", name="a"), call("wait")], "Done.")
    agent: Agent[str] = Agent(weft.model.script(script), tools=[dear])
    answer = drive(
        str(tmp_path / "j.db"), lambda runtime: runtime.run(agent.options(budget=weft.Budget(money=1)), "Go.")
    )
    assert answer.output == "Done." and "allows 1 money" in script.told(1)


def test_events_tell_of_the_handle_and_of_the_result(tmp_path: Path) -> None:
    script = Script([call("fetch", "c1", name="a")], opens("a", then=[call("poll", "p")]), "Done.")
    agent: Agent[str] = Agent(weft.model.script(script), tools=[fetch])

    @weft.workflow
    async def watch() -> list[tuple[str, str]]:
        events: AsyncIterator[AgentEvent] = agent.conversation().events("Go.")
        results: list[ToolResult] = [event.result async for event in events if isinstance(event, Returned)]
        return [(result.id, result.text[:12]) for result in results]

    assert drive(str(tmp_path / "j.db"), lambda runtime: runtime.run(watch)) == [
        ("c1", "h1: under wa"),
        ("p", "[h1] fetch: "),
        ("c1", '{"id":"A","s'),
    ]


# --- wait, poll, cancel -----------------------------------------------------------------------------------------------


def test_wait_for_any_and_for_all(store: str) -> None:
    async def later(request: Request) -> Any:
        asyncio.get_running_loop().call_later(0.02, gate("b").set)
        return [call("wait", until="any")]

    async def both(request: Request) -> Any:
        for delay, name in ((0.02, "a"), (0.04, "c")):
            asyncio.get_running_loop().call_later(delay, gate(name).set)
        return [call("wait", ids=["h3", "h1"], until="all")]

    script = Script([call("fetch", name=name) for name in "abc"], later, both, [call("wait")], "Done.")
    assert talk(store, script).turns == 5
    assert "[h2]" in script.told(2) and "[h1]" not in script.told(2)
    assert "[h1]" in script.told(3) and "[h3]" in script.told(3) and "Nothing else" in script.told(3)
    assert script.told(4) == "Nothing else is under way."


def test_a_wait_has_an_end(tmp_path: Path) -> None:
    script = Script([call("fetch", name="a")], [call("wait", seconds=0.01)], "Done?", "Done.")
    talk(tmp_path / "journal.db", script)
    assert "s have passed, and nothing has come. Under way: h1 (fetch, running" in script.told(2)


runtimes: list[weft.Runtime] = []


@tool(effect="pure")
async def knock(context: ToolContext[Any]) -> str:
    """Say something to this agent."""
    await runtimes[-1].send(context.process, said.name, "Stop, please.")
    return "knocked"


def test_a_word_from_outside_lets_calls_go_on_that_were_waited_for(tmp_path: Path) -> None:
    hold = fetch.options(name="hold", slow=False)
    script = Script(
        [call("hold", name="a"), call("knock")], opens("a", then=[call("wait", until="all")]), "Done.", "Done.", "Done."
    )
    agent: Agent[str] = Agent(weft.model.script(script), tools=[fetch, hold, knock])

    async def use(runtime: weft.Runtime) -> Any:
        runtimes.append(runtime)
        return await runtime.run(agent, "Go.")

    answer = drive(str(tmp_path / "journal.db"), use)
    texts = [text for one in answer.messages for text in (one.text, *(result.text for result in one.results)) if text]
    assert texts[1].startswith("h1: under way.") and "Stop, please." in texts
    assert '"id":"A"' in "".join(texts[texts.index("Stop, please.") :]) and given_up == []


def test_a_word_from_outside_ends_a_wait(tmp_path: Path) -> None:
    script = Script([call("fetch", name="a"), call("knock"), call("wait")], "Stopped?", "Stopped.", "Stopped.")
    agent: Agent[str] = Agent(weft.model.script(script), tools=[fetch, knock])

    async def use(runtime: weft.Runtime) -> Any:
        runtimes.append(runtime)
        return await runtime.run(agent, "Go.")

    answer = drive(str(tmp_path / "journal.db"), use)
    told = "".join(result.text for message in answer.messages for result in message.results)
    assert "Somebody has said something. Under way: h1" in told
    assert any(message.text == "Stop, please." for message in answer.messages)
    assert given_up == ["a"]


def test_poll_tells_what_has_come_and_what_has_not(tmp_path: Path) -> None:
    script = Script(
        [call("fetch", name="a"), call("fetch", name="b"), call("poll")],
        opens("b", then=[call("poll")]), "Done?", "Done.",
    )  # fmt: skip
    talk(tmp_path / "journal.db", script)
    assert "Under way: h1 (fetch, running, since" in script.told(1)
    assert '"id":"B"' in script.told(2) and "Under way: h1" in script.told(2)


def test_a_call_is_cancelled_and_so_is_what_needs_it(tmp_path: Path) -> None:
    script = Script(
        [call("fetch", name="a"), call("use", id={"$result": "h1.id"}), call("fetch", name="b")],
        [call("cancel", ids=["h1"]), call("wait", ids=["h2"])],
        opens("b", then=[call("cancel", ids=["h3"])]),
        "Done.",
    )
    assert talk(tmp_path / "journal.db", script).turns == 4
    assert "h1 (fetch) is cancelled." in script.told(2)
    assert "h1, which it needs, came to nothing" in script.told(2)
    assert given_up == ["a"] and made == ["fetch b"]
    assert "h3 was over already." in script.told(3) and '"id":"B"' in script.told(3)


def test_a_cancelled_sub_agent_is_cancelled_itself(tmp_path: Path) -> None:
    inner: Agent[str] = Agent(
        weft.model.script(Script([call("hold", name="deep")], "Never."), name="inner"),
        name="inner", tools=[fetch.options(slow=False, name="hold")],
    )  # fmt: skip
    script = Script(
        [call("ask_inner", prompt="Dig.")], [call("wait", seconds=0.3)], [call("cancel", ids=["h1"])], "Done."
    )
    answer = talk(tmp_path / "journal.db", script, inner.as_tool(slow=True))
    assert answer.output == "Done." and given_up == ["deep"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (call("wait", ids=["h9"]), "there is no handle h9; the last one is h1"),
        (call("wait", seconds=-1), "give a number above 0"),
        (call("wait", until="some"), "until:"),
        (call("wait", ids=3), "ids:"),
        (call("cancel", ids=["nine"]), "there is no handle nine"),
        (call("cancel"), "ids: is missing"),
        (ToolCall(id="w", name="wait", arguments="{"), "is no JSON"),
        (call("use", id={"$result": "h7"}), "there is no handle h7; the last one is h"),
        (call("use", id={"$result": "first"}), 'write {"$result": "h3"} for the whole of it'),
        (call("use", id={"$result": "h1", "or": 2}), "is no reference to a result"),
    ],
)
def test_what_a_model_gets_wrong_is_told(wrong: ToolCall, words: str, tmp_path: Path) -> None:
    script = Script([call("fetch", name="a")], [wrong], "Done?", "Done.")
    assert talk(tmp_path / "journal.db", script).output == "Done."
    assert words in script.told(2) and made == []


def test_a_flood_of_calls_is_bounded(tmp_path: Path) -> None:
    script = Script([call("fetch", name=str(number)) for number in range(MOST + 10)], "Done?", "Done.")
    talk(tmp_path / "journal.db", script)
    assert script.told(1).count(": under way.") == MOST
    assert script.told(1).count(f"{MOST} calls are under way, and no more can be") == 10


# --- references -------------------------------------------------------------------------------------------------------


def test_a_call_is_made_when_what_it_refers_to_is_there(store: str) -> None:
    script = Script(
        [call("fetch", name="a"), call("use", id={"$result": "h1.id"}, size={"$result": "h1.sizes[1]"}),
         call("note", text={"$result": "h2"})],
        opens("a", then=[call("wait", until="all")]),
        [call("use", id={"$result": 'h1.of["a name"]'}), call("wait")],
        "Done.",
    )  # fmt: skip
    talk(store, script)
    assert made == ["fetch a", "use A 2", "note used A", "use a 0"]
    assert "h2: under way (waits for h1)." in script.told(1) and "h3: under way (waits for h2)." in script.told(1)


def test_a_part_that_is_not_there_is_told(tmp_path: Path) -> None:
    script = Script(
        [call("fetch", name="a"), call("use", id={"$result": "h1.key"}), call("use", id={"$result": "h1.sizes[5]"})],
        opens("a", then=[call("wait", until="all")]),
        "Done.",
    )
    talk(tmp_path / "journal.db", script)
    assert "there is no h1.key: h1 has no 'key'; it has id, sizes, of" in script.told(2)
    assert "h1.sizes has no 5; it is [1, 2]" in script.told(2) and made == ["fetch a"]


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc de", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def paths(value: Any, so_far: str = "") -> list[tuple[str, Any]]:
    """Each part of it, and where."""
    found = [(so_far, value)]
    if isinstance(value, dict):
        for key, one in value.items():
            found += paths(one, f'{so_far}["{key}"]')
    if isinstance(value, list):
        for place, one in enumerate(value):
            found += paths(one, f"{so_far}[{place}]")
    return found


@given(TREES.filter(lambda tree: isinstance(tree, dict | list)))
@settings(max_examples=60, deadline=None)
def test_every_part_of_a_result_can_be_referred_to(tree: Any) -> None:
    results = {"h1": json.dumps(tree)}
    for path, value in paths(tree):
        given = {"plain": {"$result": f"h1{path}"}, "deep": [{"in": {"$result": f"h1{path}"}}]}
        assert resolved(given, {}, results) == {"plain": value, "deep": [{"in": value}]}
        assert [one.handle for one in references(given)] == ["h1", "h1"]


def test_a_text_stays_a_text() -> None:
    schema = {"properties": {"zip": {"type": "string"}, "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    given = {name: {"$result": "h1"} for name in ("zip", "maybe", "count")}
    assert resolved(given, schema, {"h1": "94016"}) == {"zip": "94016", "maybe": "94016", "count": 94016}
    assert resolved({"count": {"$result": "h1"}}, {}, {"h1": "not JSON"}) == {"count": "not JSON"}
    with pytest.raises(BadInput, match=r"there is no h1\.a: h1 has no 'a'; it is 5"):
        resolved({"count": {"$result": "h1.a"}}, {}, {"h1": "5"})


# --- premature uses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["h1", "H1", "$h1", "{{h1}}", "<h1>", "h1.id", "${h1.id}", "[result of h1]", "result: h1", "<results h1>"]
)
def test_a_handle_in_place_of_a_value_is_refused(text: str, tmp_path: Path) -> None:
    assert [*named({"a": [text]})] == ["h1"]
    script = Script(
        [call("fetch", name="a"), call("note", text=text)], [call("note", text=text)],
        opens("a", then=[call("wait")]), [call("note", text=text)], "Done.",
    )  # fmt: skip
    talk(tmp_path / "journal.db", script)
    for turn in (1, 2):
        assert "h1 is the handle of a call whose result you have not been told yet" in script.told(turn)
        assert '{"$result": "h1"}' in script.told(turn)
    assert made == ["fetch a", f"note {text}"]  # a word like any other, once the result is told


@pytest.mark.parametrize("text", ["h2 is a heading", "path1", "h1 and h2", "ah1", "h", "", "report of h1 2024"])
def test_other_texts_are_no_handles(text: str) -> None:
    assert [*named({"text": text})] == []


def test_a_made_up_value_is_refused_until_it_is_told(tmp_path: Path) -> None:
    early = [call("use", id="A")]
    script = Script(
        [call("fetch", name="a"), *early], early, early,
        opens("a", then=[call("wait")]), [call("use", id="A"), call("wait")], "Done.",
    )  # fmt: skip
    talk(tmp_path / "journal.db", script)
    for turn in (1, 2, 3):  # that it was refused once does not make it known
        assert "id='A' stands in nothing that you were told, and comes out of results of fetch" in script.told(turn)
        assert "under way as h1" in script.told(turn)
    assert made == ["fetch a", "use A 0"]


def test_an_error_makes_nothing_known(tmp_path: Path) -> None:
    @tool(effect="pure", slow=True, sources={"id": "fetch"})
    async def find(id: str) -> str:
        """Find."""
        raise LookupError(f"there is no {id}")

    asked = [call("find", id="A")]
    script = Script(
        [*asked, call("wait")], [call("find", id="A")], opens(then=[call("fetch", name="a"), *asked]), "Done?", "Done.",
    )  # fmt: skip
    talk(tmp_path / "journal.db", script, find, fetch)
    assert "there is no A" in script.told(1)
    assert "id='A' stands in nothing that you were told" in script.told(3)


def test_what_the_user_said_may_be_used_at_any_time(tmp_path: Path) -> None:
    script = Script([call("fetch", name="a"), call("use", id="B-17"), call("wait")], "Done?", "Done.")
    talk(tmp_path / "journal.db", script, prompt="Use B-17.")
    assert made == ["use B-17 0"]


def test_a_result_of_the_same_turn_is_not_known_yet(tmp_path: Path) -> None:
    script = Script([call("look"), call("buy", id="X1")], [call("buy", id="X1"), call("wait")], "Done.")

    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "X1"

    @tool(effect="pure", sources={"id": ["look"]})
    async def buy(id: str) -> str:
        """Buy."""
        made.append(id)
        return "bought"

    talk(tmp_path / "journal.db", script, look, buy, fetch)
    assert "comes out of results of look, which is called in this very turn" in script.told(1) and made == ["X1"]


# --- lanes ------------------------------------------------------------------------------------------------------------


def test_calls_of_a_lane_are_made_one_after_the_other(store: str) -> None:
    slow, other = fetch.options(lane="desk"), note.options(lane="desk")
    script = Script(
        [call("fetch", name="a"), call("fetch", name="b")],
        opens(then=[call("fetch", name="c"), call("wait", seconds=0.01)]),
        opens("a", "b", "c", then=[call("wait", until="all"), call("note", text="last")]),
        "Done.",
    )
    for name in "bc":
        gate(name).set()
    talk(store, script, slow, other)
    assert made == ["fetch a", "fetch b", "fetch c", "note last"]


def test_lanes_of_parallel_calls_that_are_waited_for() -> None:
    @tool(effect="pure", lane="one")
    async def first(text: str) -> str:
        await asyncio.sleep(0.01 if text == "a" else 0)
        made.append(text)
        return text

    second = first.options(name="second", lane="two")

    async def main() -> list[ToolResult]:
        calls = [call("first", text="a"), call("second", text="b"), call("first", text="c")]
        return await Toolset(first, second).call_all(calls)

    assert [result.text for result in asyncio.run(main())] == ["a", "b", "c"]
    assert made == ["b", "a", "c"]


# --- handing in -------------------------------------------------------------------------------------------------------


def test_handing_in_early_is_told_once_and_then_cancels(store: str) -> None:
    script = Script([call("fetch", name="a"), call("fetch", name="b")], "Early.", opens("b", then="Early."), "Late.")
    answer = talk(store, script)
    assert (answer.output, answer.turns, answer.ended) == ("Late.", 4, "done")
    assert "Under way: h1 (fetch" in script.told(2)
    assert "Handing in cancels what is under way: wait for what you need, or hand in again." in script.told(2)
    assert '"id":"B"' in script.told(3) and "Handing in" not in script.told(3)
    assert given_up == ["a"]


def test_at_the_last_turn_nothing_is_waited_for(tmp_path: Path) -> None:
    script = Script([call("fetch", name="a")], "What there is.")
    answer = talk(tmp_path / "journal.db", script, turns=2)
    assert (answer.output, answer.ended, given_up) == ("What there is.", "limit", ["a"])


def test_nothing_is_left_when_the_agent_fails(tmp_path: Path) -> None:
    def broken(request: Request) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        talk(tmp_path / "journal.db", Script([call("fetch", name="a")], broken))
    assert given_up == ["a"]


# --- likely slow, declarations ----------------------------------------------------------------------------------------


def test_what_took_long_in_past_runs_is_likely_to(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = [Script([call("note", text="x"), call("wait")], "Done.") for _ in range(2)]

    async def use(runtime: weft.Runtime) -> None:
        for script in scripts:
            agent: Agent[str] = Agent(weft.model.script(script), tools=[note], asynchronous="likely")
            await runtime.run(agent, "Go.")

    monkeypatch.setattr(latency, "SLOW", 0.0)
    drive(store, use)
    assert "noted x" in scripts[0].told(1) and "under way" not in scripts[0].told(1).split("\n")[0]
    assert scripts[1].told(1).startswith("h1: under way.") and "[h1] note: done" in scripts[1].told(1)


def test_what_can_not_be_declared() -> None:
    with pytest.raises(BadInput, match="has no parameter 'ident'"):
        note.options(sources={"ident": "fetch"})

    @tool(effect="pure")
    async def wait() -> str:
        """Another one."""
        return ""

    with pytest.raises(BadInput, match="two tools are named 'wait'"):
        Agent("script:x", tools=[wait, fetch])
    assert Agent("script:x", tools=[wait]).specs[0].name == "wait"


# --- the clock of these tests -----------------------------------------------------------------------------------------


def test_one_clock_after_another_on_a_loop_with_sleeps_that_were_given_up() -> None:
    async def use() -> list[float]:
        found = []
        for _ in range(3):
            clock = Patient()
            given_up = [asyncio.create_task(clock.sleep(1000.0 * n)) for n in (1, 2)]
            await clock.sleep(5.0)
            for one in given_up:
                one.cancel()
            await asyncio.wait(given_up)
            await clock.sleep(7.0)
            found.append(clock.now)
            late = asyncio.create_task(clock.sleep(1000.0))  # left behind, as by a runtime that closes
            await asyncio.sleep(0)
            late.cancel()
        return found

    assert asyncio.run(asyncio.wait_for(use(), 30)) == [12.0] * 3


# --- any plan, any order ----------------------------------------------------------------------------------------------

Plan = list[tuple[float, int | None, int | None]]
"""Of each call: its seconds, its lane, and how many calls back is the one that it needs."""
PLANS = st.lists(
    st.tuples(st.floats(0.1, 9), st.none() | st.integers(0, 2), st.none() | st.integers(1, 4)), min_size=1, max_size=10
)


@given(PLANS, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_any_plan_is_carried_out_in_its_order_and_replays(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, each: int, chance: random.Random
) -> None:
    began: dict[int, float] = {}
    ended: dict[int, float] = {}

    async def use(runtime: weft.Runtime) -> None:
        clock = VirtualClock()
        runtime.clock = clock.time

        def work(number: int, seconds: float, lane: int | None) -> Any:
            @tool(name=f"t{number}", effect="pure", slow=True, lane=None if lane is None else str(lane))
            async def one(of: int = -1) -> int:
                """Work."""
                assert number not in began
                began[number] = clock.now
                await clock.sleep(seconds)
                ended[number] = clock.now
                return number

            return one

        turns: list[Any] = []
        for first in range(0, len(plan), each):
            calls = []
            for number in range(first, min(first + each, len(plan))):
                back = plan[number][2]
                needs: dict[str, Any] = {}
                if back is not None and back <= number:
                    needs["of"] = {"$result": f"h{number - back + 1}"}
                calls.append(call(f"t{number}", **needs))
            turns.append([*calls, call("wait")] if chance.random() < 0.5 else calls)
        script = Script(*turns, [call("wait", until="all")], "Done.")
        tools = [work(number, seconds, lane) for number, (seconds, lane, _) in enumerate(plan)]
        agent: Agent[str] = Agent(weft.model.script(script), tools=tools, turns=None)
        run = await runtime.start(agent, "Go.")
        answer = await run
        assert answer.output == "Done." and len(ended) == len(plan)
        for number, (_, lane, back) in enumerate(plan):
            if back is not None and back <= number:
                assert ended[number - back] <= began[number]
            before = [one for one in range(number) if lane is not None and plan[one][1] == lane]
            assert all(ended[one] <= began[number] for one in before)
        segments = await runtime.store.segments([run.id])
        records = [record for segment in segments for record in decode_records(segment.records)]
        again = await runtime.fork(run.id, at=max(one.effect for one in records if isinstance(one, Outcome)))
        asked = len(script.requests)
        assert (await again).messages == answer.messages and len(script.requests) <= asked + 1

    drive(str(tmp_path_factory.mktemp("plan") / "journal.db"), use, durability="process")


# --- killed -----------------------------------------------------------------------------------------------------------

SEED = int(os.environ.get("WEFT_CRASH_SEED", "7"))
KILLS = 4
KILLED = """
    import asyncio, sys, time, weft
    from pathlib import Path
    from weft.agent import Agent
    from weft.core.content import ToolCall
    from weft.tool import tool

    place, log = sys.argv[1], Path(sys.argv[2])

    @tool(effect="at_most_once", slow=True, lane="log")
    def save(number: int, after: str = "") -> str:
        "Save a number."
        with log.open("a") as file:
            file.write(f"{number}\\n")
        time.sleep(0.05)
        return f"saved {number}"

    def reply(request):
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn < 4:
            def one(number):
                needs = {"after": {"$result": f"h{number - 2}"}} if number > 4 else {}
                return ToolCall(id=str(number), name="save", arguments={"number": number, **needs})
            calls = [one(3 * turn + at + 1) for at in range(3)]
            return [*calls, ToolCall(id=f"w{turn}", name="wait")]
        if turn == 4:
            return [ToolCall(id="w", name="wait", arguments={"until": "all"})]
        return "Done."

    async def main():
        agent = Agent(weft.model.script(reply), tools=[save])
        async with weft.Runtime(place, policy=weft.Policy(base="all")) as runtime:
            await runtime.resume_all()
            run = await runtime.start(agent.options(key="one"), "Go.")
            answer = await run
            print(answer.output)

    asyncio.run(main())
"""


def test_killed_at_any_point_no_call_is_made_twice(tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log.txt"
    program.write_text(textwrap.dedent(KILLED))
    log.touch()
    chance = random.Random(SEED)
    kills = 0
    while True:
        child = subprocess.Popen(
            [sys.executable, str(program), str(tmp_path / "journal.db"), str(log)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
        )  # fmt: skip
        enough = len(lines(log)) + chance.choice((1, 2, 3))
        while child.poll() is None and len(lines(log)) < enough and kills < KILLS:
            time.sleep(0.002)
        if child.poll() is None and kills < KILLS:
            child.send_signal(signal.SIGKILL)
            child.communicate()
            kills += 1
            continue
        out, err = child.communicate(timeout=60)
        assert out == "Done.\n", err
        break
    saved = lines(log)
    assert kills >= 1 and len(saved) == len({*saved}), "a call was made twice"
    assert saved == sorted(saved, key=int)  # some are missing: those that needed what was in flight at a kill


def lines(log: Path) -> Sequence[str]:
    return log.read_text().split()
