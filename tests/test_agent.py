"""Agents: the loop, parallel calls, types and mends, guards, hand-off, sub-agents, words in between, bad behaviour."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import weft
from tests.programs import drive, fresh, note, ran
from tests.servers.chat import ChatServer, chat_server, piece
from tests.servers.chat import said as reply_of
from weft.agent import Agent, AgentEvent, Answer, Ended, Handoff, Heard, Modelled, RunProgram, SubAgent, Tripped
from weft.agent.conversation import MOST, said
from weft.agent.program import Limits
from weft.core.budget import Budget
from weft.core.errors import AnswerMisfit, BadInput, Cancelled, ModelError
from weft.model import Message, Request, TextDelta, Usage, script
from weft.tool import Tool, ToolCall, ToolResult, tool
from weft.tool.toolset import GIVEN_UP

__all__ = ["fresh"]


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A file alone, where the store makes no difference."""
    return str(tmp_path / "journal.db")


def call(name: str, id: str = "c1", **arguments: Any) -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


@tool(effect="pure")
async def add(one: int, two: int) -> int:
    """Add two numbers."""
    ran.append((one, two))
    return one + two


@tool
async def stuck() -> str:
    """Never comes back."""
    ran.append("stuck")
    await asyncio.Event().wait()
    return "never"


@tool
async def mark() -> None:
    """Say that it came this far."""
    ran.append("mark")


def results_of(answer: Answer[Any]) -> list[ToolResult]:
    return [result for message in answer.messages for result in message.results]


def texts_of(answer: Answer[Any], role: str) -> list[str]:
    return [message.text for message in answer.messages if message.role == role]


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_it_calls_what_the_model_asks_for_and_hands_in_what_it_says(store: str) -> None:
    helper = Agent(script([call("add", one=2, two=3), "It is 5."]), name="adder", tools=[add], instructions="Be brief.")
    answer = drive(store, lambda r: r.run(helper, "What is 2 + 3?"))
    assert (answer.output, answer.ended, answer.turns, answer.agent) == ("It is 5.", "done", 2, "adder")
    assert [result.text for result in results_of(answer)] == ["5"] and ran == [(2, 3)]
    assert [m.role for m in answer.messages] == ["user", "assistant", "tool", "assistant"]


def test_instructions_are_made_anew_and_are_no_part_of_what_was_said(store: str) -> None:
    seen: list[list[str]] = []

    def model(request: Request) -> str:
        seen.append([f"{m.role}: {m.text}" for m in request.messages])
        return "Yes."

    helper = Agent(script(model), name="dated", instructions=lambda: f"Run {weft.current().workflow}.")

    @weft.workflow
    async def twice() -> Answer[str]:
        first = await helper.conversation().say("One?")
        return await helper.conversation(first.messages).say("Two?")

    answer = drive(store, lambda r: r.run(twice))
    assert seen[0] == [f"system: Run {twice.name}.", "user: One?"]
    assert seen[1] == [f"system: Run {twice.name}.", "user: One?", "assistant: Yes.", "user: Two?"]
    assert "system" not in {m.role for m in answer.messages}


def test_calls_of_one_reply_run_beside_each_other_and_come_back_in_their_order(place: str) -> None:
    arrived = asyncio.Event()

    @tool
    async def first() -> str:
        await asyncio.wait_for(arrived.wait(), 30)
        return "first"

    @tool
    async def second() -> str:
        arrived.set()
        return "second"

    helper = Agent(script([[call("first", "a"), call("second", "b")], "Done."]), name="both", tools=[first, second])
    answer = drive(place, lambda r: r.run(helper, "Go."))
    assert [(r.id, r.text) for r in results_of(answer)] == [("a", "first"), ("b", "second")]


def test_usage_and_money_add_up(store: str) -> None:
    from weft.model.request import Reply

    lines = [
        Reply(
            message=Message("assistant", call("add", one=1, two=1)), finish="tool_call", usage=Usage(input=5, output=2)
        ),
        Reply(message=Message("assistant", "2"), usage=Usage(input=9, output=1)),
    ]
    answer = drive(store, lambda r: r.run(Agent(script(lines), name="counted", tools=[add]), "1 + 1?"))
    assert (answer.usage.input, answer.usage.output) == (14, 3)


def test_several_things_are_said_in_one_conversation(store: str) -> None:
    helper = Agent(script(["One.", "Two.", "Three."]), name="talker")

    @weft.workflow
    async def talk() -> list[str]:
        talk = helper.conversation()
        return [(await talk.say(words)).output for words in ("a", "b", "c")]

    assert drive(store, lambda r: r.run(talk)) == ["One.", "Two.", "Three."]


# --- types ------------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    title: str
    pages: int


def test_output_has_the_type_that_was_asked_for(store: str) -> None:
    helper = Agent(script(['{"title": "Owls", "pages": 3}']), name="reporter", output=Report)

    @weft.workflow
    async def use() -> Any:
        output = (await helper("Report.")).output
        return [type(output).__name__, output.pages]

    assert drive(store, lambda r: r.run(use)) == ["Report", 3]


def test_what_does_not_fit_goes_back_with_the_reason(store: str) -> None:
    helper = Agent(script(['{"title": "Owls"}', '{"title": "Owls", "pages": 3}']), name="mended", output=Report)
    answer = drive(store, lambda r: r.run(helper, "Report."))
    assert answer.output == Report("Owls", 3) and answer.turns == 2
    assert "pages" in texts_of(answer, "user")[1]


def test_who_never_fits_fails_after_so_many_mends(store: str) -> None:
    asked: list[int] = []

    def model(request: Request) -> str:
        asked.append(len(request.messages))
        return "no JSON"

    helper = Agent(script(model), name="hopeless", output=Report, mends=2)
    with pytest.raises(AnswerMisfit):
        drive(store, lambda r: r.run(helper, "Report."))
    assert len(asked) == 3


def test_a_refusal_is_told_as_one(store: str) -> None:
    from weft.model.message import Refusal

    answer = drive(
        store, lambda r: r.run(Agent(script([[Refusal(content="No.")]]), name="no", output=Report), "Report.")
    )
    assert (answer.ended, answer.output) == ("refused", None)


# --- guards -----------------------------------------------------------------------------------------------------------


def test_guards_see_what_is_said_and_may_change_or_stop_it(store: str) -> None:
    def hide(messages: list[Message]) -> list[Message]:
        return [Message(m.role, m.text.replace("4711", "****")) for m in messages]

    async def stop(messages: list[Message]) -> None:
        if "bomb" in messages[-1].text:
            raise Tripped("no weapons")

    helper = Agent(script(lambda request: f"You said {request.messages[-1].text}"), name="guarded", guards=[hide, stop])
    assert drive(store, lambda r: r.run(helper, "My pin is 4711")).output == "You said My pin is ****"
    with pytest.raises(Tripped, match="no weapons"):
        drive(store, lambda r: r.run(helper, "a bomb"))


def test_checks_see_what_is_handed_in_and_may_send_it_back(store: str) -> None:
    async def polite(text: str) -> str:
        if "please" not in text:
            raise Tripped("rude", told="say please")
        return text.upper()

    answer = drive(store, lambda r: r.run(Agent(script(["Go.", "Go, please."]), name="checked", checks=[polite]), "?"))
    assert answer.output == "GO, PLEASE." and "say please" in texts_of(answer, "user")[1]


def test_a_check_that_tells_the_model_nothing_ends_it(store: str) -> None:
    def never(text: str) -> str:
        raise Tripped("a secret was in it")

    with pytest.raises(Tripped, match="a secret"):
        drive(store, lambda r: r.run(Agent(script(["x"]), name="leaky", checks=[never]), "?"))


def test_words_in_between_pass_the_guards_too(store: str) -> None:
    def shout(messages: list[Message]) -> list[Message]:
        return [Message(m.role, m.text.upper()) for m in messages]

    helper = Agent(slow_then("Done."), name="shouting", guards=[shout])
    answer = drive(store, lambda r: interrupted(r, helper, "stop it"))
    assert texts_of(answer, "user") == ["GO.", "STOP IT"]


# --- hand-off and sub-agents ------------------------------------------------------------------------------------------


def test_the_other_agent_goes_on_with_its_own_instructions_tools_and_type(store: str) -> None:
    def billing(request: Request) -> Any:
        assert request.messages[0].text == "You bill." and [t.name for t in request.tools] == ["add"]
        return '{"title": "Bill", "pages": 1}'

    biller = Agent(script(billing, name="b"), name="the biller", instructions="You bill.", tools=[add], output=Report)
    front = Agent(
        script([[call("hand_over_to_the_biller", "h"), call("add", "x", one=1, two=1)]], name="f"),
        name="front", instructions="You greet.", tools=[add, Handoff(biller)],
    )  # fmt: skip
    answer = drive(store, lambda r: r.run(front, "My bill?"))
    assert answer.output == Report("Bill", 1) and answer.agent == "the biller"
    assert [r.error for r in results_of(answer)] == [False, True] and not ran  # nothing else of that reply was done


def test_two_agents_that_hand_over_for_ever_come_to_their_limit(store: str) -> None:
    one = Agent(script(lambda _: call("hand_over_to_two"), name="1"), name="one", turns=6)
    two = Agent(script(lambda _: call("hand_over_to_one"), name="2"), name="two", turns=6, tools=[Handoff(one)])
    one.handoffs["hand_over_to_two"] = two
    answer = drive(store, lambda r: r.run(two, "Whose is it?"))
    assert (answer.ended, answer.turns) == ("limit", 6)


@tool(name="write", needs=["file.write:out/a.md"])
async def write() -> str:
    """Write."""
    ran.append("wrote")
    return "written"


def parent_of(child: Tool[..., Any], **arguments: Any) -> Agent[str]:
    def model(request: Request) -> Any:
        results = [result for message in request.messages for result in message.results]
        return "; ".join(result.text for result in results) or call(child.shown, **(arguments or {"prompt": "Write."}))

    return Agent(script(model, name="parent"), name="parent", tools=[child])


def writes(name: str) -> Agent[str]:
    def model(request: Request) -> Any:
        results = [result for message in request.messages for result in message.results]
        return "; ".join(result.text for result in results) or call("write")

    return Agent(script(model, name="writer"), name=name, tools=[write])


def test_a_sub_agent_hands_in_to_its_parent(store: str) -> None:
    assert drive(store, lambda r: r.run(parent_of(writes("writer").as_tool()), "Go.")).output == "written"


@pytest.mark.parametrize("rights", [["tool:write", "model:**"], ["tool:write", "model:**", "read:./out"]])
def test_a_sub_agent_holds_only_what_it_was_given(store: str, rights: list[str]) -> None:
    child = writes("narrow").as_tool(rights=rights)
    answer = drive(store, lambda r: r.run(parent_of(child), "Go."))
    assert "not allowed" in answer.output and "wrote" not in ran


def test_a_sub_agent_gets_no_right_that_its_parent_has_not(store: str) -> None:
    child = writes("greedy").as_tool(rights=["all"])
    policy = weft.Policy(base="program", allow=("tool:*", "model:**"))
    answer = drive(store, lambda r: r.run(parent_of(child), "Go."), policy=policy)
    assert "wrote" not in ran and ("denied" in answer.output or "not allowed" in answer.output)


def test_a_sub_agent_that_asks_a_sub_agent_does_not_widen_its_rights(store: str) -> None:
    inner = writes("inner").as_tool(rights=["all"], name="inner")
    middle = parent_of(inner)
    middle.name = "middle"
    weft.core.workflow.registry["middle"] = middle
    outer = Agent(
        script(lambda r: "; ".join(x.text for m in r.messages for x in m.results) or call("ask_middle", prompt="?"),
               name="outer"),
        name="outer", tools=[middle.as_tool(rights=["tool:*", "model:**"], description="Asks.")],
    )  # fmt: skip
    answer = drive(store, lambda r: r.run(outer, "Go."))
    assert "wrote" not in ran and "not" in answer.output


def test_a_sub_agents_budget_ends_it_and_not_its_parent(store: str) -> None:
    busy = Agent(
        script(lambda _: call("add", one=1, two=1), name="busy"), name="busy", tools=[add], description="Adds."
    )
    parent = parent_of(busy.as_tool(budget=Budget(effects=5)))
    answer = drive(store, lambda r: r.run(parent, "Go."))
    assert len(ran) <= 5 and "came to a limit" in answer.output and answer.ended == "done"


def test_a_budget_is_never_overrun(store: str) -> None:
    busy = Agent(script(lambda _: call("add", one=1, two=1)), name="spender", tools=[add])
    answer = drive(store, lambda r: r.run(busy.options(budget=Budget(effects=7)), "Go."))
    assert answer.ended == "limit" and len(ran) == 3  # and four generations


def test_any_workflow_is_a_tool(store: str) -> None:
    @weft.workflow
    async def doubled(number: int) -> int:
        """Double it."""
        return 2 * int(await note(number))

    made = SubAgent(doubled)
    answer = drive(store, lambda r: r.run(parent_of(made, number=21), "Go."))
    assert answer.output == "42" and ran == [21]


def test_hooks_see_calls_of_sub_agents_too(store: str) -> None:
    def before(asked: ToolCall, context: Any) -> ToolCall | ToolResult:
        prompt = asked.arguments["prompt"]  # type: ignore[index]
        if prompt == "Secret.":
            return ToolResult.of(asked.id, "that is not for you", name=asked.name, error=True)
        return call("", prompt=prompt.upper())

    def after(asked: ToolCall, result: ToolResult, context: Any) -> ToolResult:
        return ToolResult.of("", f"{result.text}!")

    heard = Agent(script(lambda request: f"heard {request.messages[-1].text}", name="heard"), name="heard")
    child = heard.as_tool(before=[before]).options(after=[after])
    assert drive(store, lambda r: r.run(parent_of(child, prompt="Write."), "Go.")).output == "heard WRITE.!"
    assert drive(store, lambda r: r.run(parent_of(child, prompt="Secret."), "Go.")).output == "that is not for you!"
    assert "prompt: is missing" in drive(store, lambda r: r.run(parent_of(child, word="x"), "Go.")).output


def test_what_a_sub_agent_can_not_be_given() -> None:
    for wrong in ("timeout", "retries", "effect"):
        with pytest.raises(BadInput, match=rf"SubAgent\({wrong}=\.\.\.\).*workflow\.options"):
            writes("limited").as_tool(**{wrong: 1})


def test_agents_of_one_name_are_not_run_as_processes(place: str) -> None:
    one, _ = Agent(script(["1"])), Agent(script(["2"]))
    with pytest.raises(BadInput, match=r"Agent\(name="):
        drive(place, lambda r: r.run(one, "?"))


# --- words in between -------------------------------------------------------------------------------------------------


def slow_then(*lines: Any) -> Any:
    """A model that is at its first answer for ever, until it is told something."""

    async def model(request: Request) -> Any:
        words = [part for m in request.messages if m.role == "user" for part in m.parts]
        if len(words) < 2:
            ran.append("thinking")
            await asyncio.Event().wait()
        return lines[len(words) - 2]

    return script(model, name="slow")


async def until(true: Callable[[], Any]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that in 20 s")


async def interrupted(runtime: weft.Runtime, agent: Agent[Any], words: str) -> Answer[Any]:
    """Somebody says something while the model thinks, or while a tool runs."""
    run = await runtime.start(agent, "Go.")
    await until(lambda: ran)
    await runtime.send(run.id, said.name, words)
    answer: Answer[Any] = await run
    return answer


def test_a_generation_is_left_when_somebody_says_something(store: str) -> None:
    answer = drive(store, lambda r: interrupted(r, Agent(slow_then("Stopped."), name="thinker"), "Stop."))
    assert answer.output == "Stopped." and texts_of(answer, "user") == ["Go.", "Stop."]


def test_a_tool_that_never_returns_is_given_up_when_somebody_says_something(store: str) -> None:
    model = script([[call("add", "a", one=1, two=1), call("stuck", "b")], "Left it."])
    answer = drive(store, lambda r: interrupted(r, Agent(model, name="stuck", tools=[add, stuck]), "Leave it."))
    assert answer.output == "Left it."
    first, second = results_of(answer)
    assert (first.text, second.text, second.error) == ("2", GIVEN_UP, True)
    assert [m.role for m in answer.messages] == ["user", "assistant", "tool", "user", "assistant"]


def never_done(case: str) -> tuple[Tool[..., Any], list[ToolCall]]:
    """A tool, and calls of it that come to no end."""
    if case == "flood":
        return stuck, [call("stuck", f"c{n}") for n in range(1000)]
    if case == "sub-agent":
        return Agent(script([call("stuck")], name="inner"), name="inner", tools=[stuck]).as_tool(), [
            call("ask_inner", prompt="Go.")
        ]
    if case == "person":
        return stuck.options(approval=lambda: ran.append("asked") or True), [call("stuck")]
    pytest.importorskip("pydantic_monty", reason="programs run in the embedded Python of weft[sandbox]")
    text = {
        "program that calls": "await stuck()",
        "program that sleeps": "import asyncio\nawait mark()\nawait asyncio.sleep(1e6)",
        "program that computes": "await mark()\nwhile True: pass",
    }[case]
    return RunProgram(stuck, mark, limits=Limits(seconds=600)), [call("run_program", program=text)]


@pytest.mark.parametrize(
    "case",
    ["flood", "sub-agent", "person", "program that calls", "program that sleeps", "program that computes"],
)
def test_words_in_the_middle_of_what_never_ends_end_it(place: str, case: str) -> None:
    endless, calls = never_done(case)
    helper = Agent(script([calls, "Left it."], name=case.replace(" ", "-")), name="endless", tools=[endless])
    answer = drive(place, lambda r: interrupted(r, helper, "Leave it."))
    assert (answer.output, answer.turns, len(results_of(answer))) == ("Left it.", 2, len(calls))
    assert all(result.error for result in results_of(answer)) and results_of(answer)[0].text == GIVEN_UP


def test_a_tool_that_never_returns_is_ended_by_its_time_limit(store: str) -> None:
    helper = Agent(script([call("stuck"), "Too slow."]), name="timed", tools=[stuck.options(timeout=0.1)])
    answer = drive(store, lambda r: r.run(helper, "Go."))
    assert "did not finish in time" in results_of(answer)[0].text


def test_interruptions_are_no_turns_and_widen_no_limit(store: str) -> None:
    """At the last turn, too: what follows it is the last turn again."""
    asked: list[str] = []

    async def model(request: Request) -> Any:
        asked.append(request.tool_choice)
        if len(asked) == 2:
            ran.append("thinking")
            await asyncio.Event().wait()
        return call("add", one=1, two=1)

    helper = Agent(script(model), name="last", tools=[add], turns=2)

    async def use(runtime: weft.Runtime) -> Answer[str]:
        run = await runtime.start(helper, "Go.")
        await until(lambda: "thinking" in ran)
        await runtime.send(run.id, said.name, "Hurry.")
        return await run

    assert drive(store, use).ended == "limit"
    assert asked == ["auto", "none", "none"]


def test_a_run_is_cancelled_in_the_middle_of_a_tool(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(Agent(script([call("stuck")]), name="cancelled", tools=[stuck]), "Go.")
        await until(lambda: ran)
        await run.cancel()
        await run

    with pytest.raises(Cancelled):
        drive(store, use)


def test_letters_that_come_before_it_begins_are_heard_in_their_order(store: str) -> None:
    helper = Agent(script(lambda request: request.messages[0].text), name="late")

    @weft.workflow
    async def waits() -> str:
        await note("begun")
        await weft.wait_for("go")
        await weft.sleep(1)  # letters are on the disk when `send` returns, and here soon after
        return (await helper.conversation().say("a")).output

    async def use(runtime: weft.Runtime) -> str:
        run = await runtime.start(waits)
        for words in ("b", "c"):
            await runtime.send(run.id, said.name, words)
        await runtime.run(publishes)
        return await run

    assert drive(store, use) == "abc"


@weft.workflow
async def publishes() -> None:
    await weft.publish("go", True)


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pausing() -> Iterator[ChatServer]:
    """A provider that says a few words and then nothing for long."""

    def answer(body: dict[str, Any], number: int) -> Any:
        if not body.get("stream"):
            return reply_of("All right.")
        if len(body["messages"]) > 2:
            return [piece(content="All right."), piece("stop")]
        return [piece(content="Let me "), piece(content="think"), 30.0, piece("stop", content=".")]

    with chat_server(answer) as server:
        yield server


async def told(agent: Agent[Any], prompt: str) -> list[AgentEvent]:
    events = []
    async for event in agent.conversation().events(prompt):
        events.append(event)
        if isinstance(event, Modelled) and isinstance(event.event, TextDelta):
            ran.append(event.event.text)
    return events


def test_events_come_in_order_and_the_last_is_the_answer(store: str) -> None:
    helper = Agent(script([call("add", one=1, two=2), "It is 3."]), name="watched", tools=[add])

    @weft.workflow
    async def watch() -> list[str]:
        events = await told(helper, "1 + 2?")
        assert isinstance(events[-1], Ended) and events[-1].answer.output == "It is 3."
        return [type(event).__name__ for event in events if not isinstance(event, Modelled)]

    assert drive(store, lambda r: r.run(watch)) == ["TurnStarted", "Returned", "TurnStarted", "Ended"]
    assert "".join(text for text in ran if isinstance(text, str)) == "It is 3."


def test_words_in_the_middle_of_a_stream_keep_what_was_read(
    store: str, pausing: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    helper = Agent(f"{pausing.url}#any", name="streamed")

    @weft.workflow
    async def watch() -> list[str]:
        events = await told(helper, "Go.")
        assert any(isinstance(event, Heard) for event in events)
        last = events[-1]
        assert isinstance(last, Ended)
        return [f"{m.role}: {m.text}" for m in last.answer.messages]

    async def use(runtime: weft.Runtime) -> list[str]:
        run = await runtime.start(watch)
        await until(lambda: "".join(map(str, ran)) == "Let me think")
        await runtime.send(run.id, said.name, "Stop.")
        return await run

    assert drive(store, use) == ["user: Go.", "assistant: Let me think", "user: Stop.", "assistant: All right."]


def test_who_leaves_a_stream_may_say_the_next_thing(
    store: str, pausing: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    helper = Agent(f"{pausing.url}#any", name="left")

    @weft.workflow
    async def leave() -> list[str]:
        talk = helper.conversation()
        events = talk.events("Go.")
        async for event in events:
            if isinstance(event, Modelled) and isinstance(event.event, TextDelta):
                break
        await events.aclose()
        answer = await talk.say("Never mind.")
        return [m.text for m in answer.messages]

    assert drive(store, lambda r: r.run(leave))[2:] == ["Never mind.", "All right."]


# --- bad behaviour ----------------------------------------------------------------------------------------------------


def test_a_model_that_loops_is_asked_to_hand_in_at_its_limit(store: str) -> None:
    seen: list[tuple[str, str]] = []

    def model(request: Request) -> Any:
        seen.append((request.tool_choice, request.messages[-1].text))
        return "As far as I came." if request.tool_choice == "none" else call("add", one=1, two=1)

    answer = drive(store, lambda r: r.run(Agent(script(model), name="loops", tools=[add], turns=4), "Go."))
    assert (answer.output, answer.ended, answer.turns, len(ran)) == ("As far as I came.", "limit", 4, 3)
    assert seen[-1][0] == "none" and "last turn" in seen[-1][1]


def test_what_a_model_calls_in_its_last_turn_is_not_done(store: str) -> None:
    helper = Agent(script(lambda _: call("add", one=1, two=1)), name="deaf", tools=[add], turns=2)
    answer = drive(store, lambda r: r.run(helper, "Go."))
    assert (answer.ended, answer.output, len(ran)) == ("limit", "", 1)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (call("ad", one=1, two=1), "did you mean 'add'?"),
        (call("add", one="x", two=1), "one"),
        (call("add", one=1), "two: is missing"),
        (ToolCall(id="c1", name="add", arguments='{"one": 1, "tw'), "the arguments"),
        (ToolCall(id="c1", name="add", arguments="[]"), "arguments"),
        (call("", one=1), "there is no tool"),
        (call("add", one=1, two=1, three=1), "three"),
    ],
)
def test_the_model_is_told_what_is_wrong_with_a_call(place: str, bad: ToolCall, words: str) -> None:
    helper = Agent(script([bad, "Sorry."]), name="clumsy", tools=[add])
    answer = drive(place, lambda r: r.run(helper, "Go."))
    (result,) = results_of(answer)
    assert result.error and words in result.text and answer.output == "Sorry." and not ran


def test_of_a_flood_of_calls_the_first_are_carried_out(store: str) -> None:
    flood = [call("add", f"c{n}", one=n, two=0) for n in range(1000)]
    answer = drive(store, lambda r: r.run(Agent(script([flood, "Wet."]), name="flood", tools=[add]), "Go."))
    results = results_of(answer)
    assert len(ran) == MOST and len(results) == 1000
    assert [r.error for r in results] == [False] * MOST + [True] * (1000 - MOST)


def test_calls_of_one_id_each_get_their_result(store: str) -> None:
    twins = [call("add", "same", one=1, two=1), call("add", "same", one=2, two=2)]
    answer = drive(store, lambda r: r.run(Agent(script([twins, "Done."]), name="twins", tools=[add]), "Go."))
    assert [r.text for r in results_of(answer)] == ["2", "4"]


def test_a_tool_that_fails_is_told_and_an_error_of_the_model_is_raised(store: str) -> None:
    @tool
    async def breaks() -> None:
        raise OSError("the disk is on fire")

    helper = Agent(script([call("breaks"), "It burns."]), name="burning", tools=[breaks])
    assert "the disk is on fire" in results_of(drive(store, lambda r: r.run(helper, "Go.")))[0].text
    with pytest.raises(ModelError):
        drive(store, lambda r: r.run(Agent(script([ModelError("no")]), name="down"), "Go."))


@pytest.mark.parametrize("turns", [0, -1])
def test_no_turns_are_no_agent(turns: int) -> None:
    with pytest.raises(BadInput, match="at least once"):
        Agent("script:x", turns=turns)


def test_what_an_agent_can_not_be_given(place: str) -> None:
    with pytest.raises(BadInput, match="two tools are named"):
        Agent("script:x", tools=[Handoff(Agent("script:x", name="one")), Handoff(Agent("script:x", name="one"))])
    with pytest.raises(BadInput):
        Agent("script:x", tools=[print])  # type: ignore[list-item]
    with pytest.raises(BadInput, match="no setting 'heat'"):
        drive(place, lambda r: r.run(Agent(script(["x"]), name="hot", heat=1), "?"))


def test_a_choice_is_an_output_type(store: str) -> None:
    helper = Agent(script(["maybe", '"yes"']), name="chooser", output=Literal["yes", "no"])  # type: ignore[arg-type]
    assert drive(store, lambda r: r.run(helper, "?")).output == "yes"


def test_an_agent_of_a_file_is_run_from_the_command_line(workspace: Path) -> None:
    (workspace / "writer.py").write_text(
        "import weft.model\nfrom weft.agent import Agent\n\n"
        'writer = Agent(weft.model.script(["Done."], name="writer"), name="writer")\n'
    )
    asked = ["run", "writer.py", "--input", "prompt=Write.", "--json", "--allow", "model:script/*"]
    done = subprocess.run([sys.executable, "-m", "weft", *asked], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Done." in done.stdout, done.stdout + done.stderr
