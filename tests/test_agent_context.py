"""What of a long conversation an agent's model is shown: subtasks, compaction, recall, results by reference."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive, fresh, ran
from weft.agent import Agent, Answer, Compacted, Context, Ended, Fixed, Template
from weft.agent.context import Cut, Summary, rendered
from weft.agent.context.subtasks import DEPTH, PAGES
from weft.core.budget import Budget
from weft.core.errors import BadInput, ModelBusy, PromptTooLong
from weft.core.record import Outcome
from weft.model import Message, Model, Reply, Request, Usage, local, script
from weft.model.generate import length
from weft.model.provider import Asked
from weft.model.repair import repair
from weft.tool import ToolCall, ToolResult, tool

__all__ = ["fresh"]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path: Any) -> str:
    """A file alone, where the store makes no difference."""
    return str(tmp_path / "journal.db")


@tool(effect="pure")
async def look(at: str) -> str:
    """Look at something."""
    ran.append(at)
    return f"{at} is blue. " * 20


def begin(goal: str, id: str = "b") -> ToolCall:
    return ToolCall(id=id, name="begin_subtask", arguments={"goal": goal})


def conclude(conclusion: str, id: str = "e") -> ToolCall:
    return ToolCall(id=id, name="conclude", arguments={"conclusion": conclusion})


def recall(id: str, **page: int) -> ToolCall:
    return ToolCall(id=f"r{id}", name="recall", arguments={"id": id, **page})


def looking(at: str) -> ToolCall:
    return ToolCall(id=f"look-{at}", name="look", arguments={"at": at})


class Scripted:
    """Says its lines one after the other, whatever it is shown, and keeps what it was shown."""

    def __init__(self, lines: list[Any]) -> None:
        self.lines = lines
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Any:
        if request.messages[0].text.startswith("Sum up"):
            return "A summary."
        self.seen.append(request)
        line = self.lines[len(self.seen) - 1]
        return line(request) if callable(line) else line


def agent(lines: list[Any], name: str, **options: Any) -> tuple[Agent[Any], Scripted]:
    said = Scripted(lines)
    options = {"tools": [look], "context": Context(subtasks=True), **options}
    return Agent(script(said, name=name), name=name, **options), said


def results(messages: list[Message]) -> list[ToolResult]:
    return [result for message in messages for result in message.results]


# --- subtasks ---------------------------------------------------------------------------------------------------------


def test_a_finished_subtask_is_its_conclusion_and_its_steps_are_recalled(store: str) -> None:
    lines = [begin("Which colour?"), looking("sky"), conclude("Blue."), recall("s1"), "Blue."]
    helper, said = agent(lines, "subtask")
    answer: Answer[str] = drive(store, lambda r: r.run(helper, "What colour is the sky?"))
    shown = said.seen[3].messages
    assert [m.role for m in shown] == ["user", "assistant", "tool"]
    (told,) = shown[-1].results
    assert told.id == "b" and told.text.startswith("s1 is finished: Blue.")
    recalled = results(said.seen[4].messages)[-1].text
    assert "sky is blue" in recalled and "Which colour?" in recalled and "conclude" in recalled
    assert [m.role for m in answer.messages] == ["user"] + ["assistant", "tool"] * 4 + ["assistant"]
    assert "sky is blue" in results(answer.messages)[1].text, "the conversation itself is whole"


def test_subtasks_have_subtasks(store: str) -> None:
    lines = [begin("All", "1"), begin("Sky", "2"), looking("sky"), conclude("Sky: blue", "3"), looking("sea"),
             conclude("Both blue", "4"), recall("s1"), recall("s2"), "Blue."]  # fmt: skip
    helper, said = agent(lines, "nested")
    drive(store, lambda r: r.run(helper, "Which colours?"))
    inner = [one.text for one in results(said.seen[4].messages)]
    assert inner[0].startswith("s1 has begun") and inner[1].startswith("s2 is finished: Sky: blue")
    assert [one.text[:30] for one in results(said.seen[6].messages)] == ["s1 is finished: Both blue\n[rec"]
    outer, steps = (one.text for one in results(said.seen[8].messages)[1:])
    assert "sea is blue" in outer and "sky is blue" not in outer and "recall('s2')" in outer
    assert "sky is blue" in steps and "sea is blue" not in steps


def test_what_people_say_in_a_subtask_stays(place: str) -> None:
    lines = [begin("Which colour?"), looking("sky"), "Hm.", "Hm.", conclude("Blue."), "Done."]
    helper, said = agent(lines, "spoken")

    @weft.workflow
    async def talk() -> None:
        talk = helper.conversation()
        await talk.say("What colour is the sky?")
        await talk.say("And be quick.")

    drive(place, lambda r: r.run(talk))
    last = said.seen[-1].messages
    assert [m.text for m in last if m.role == "user"] == ["What colour is the sky?", "And be quick."]
    assert "Open: s1" in said.seen[3].messages[-1].text and "Open: s1" not in "".join(m.text for m in last)


def test_handing_in_with_open_subtasks_is_told_once(place: str) -> None:
    helper, said = agent([begin("Which colour?"), "Blue.", "Blue."], "open")
    answer = drive(place, lambda r: r.run(helper, "What colour is the sky?"))
    assert answer.output == "Blue." and answer.turns == 3
    assert "Open: s1 (Which colour?)" in said.seen[-1].messages[-1].text


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (conclude("Blue."), "no subtask is open"),
        (begin("  "), "goal is empty"),
        (ToolCall(id="b", name="begin_subtask", arguments="{"), "no JSON"),
        (ToolCall(id="b", name="begin_subtask", arguments={}), "goal"),
        (recall("s1"), "there is no 's1' to recall; nothing is left out yet"),
        (recall("../s1"), "there is no"),
    ],
    ids=["conclude", "blank", "no json", "no goal", "recall", "recall path"],
)  # fmt: skip
def test_what_makes_no_sense_is_told(place: str, call: ToolCall, why: str) -> None:
    helper, said = agent([call, "Done."], "senseless")
    assert drive(place, lambda r: r.run(helper, "Go.")).output == "Done."
    (told,) = results(said.seen[-1].messages)
    assert told.error and why in told.text


def test_floods_are_refused(place: str) -> None:
    deeper = [begin("Deeper", f"{n}") for n in range(DEPTH + 1)]
    helper, said = agent([[begin("a", "x"), begin("b", "y"), conclude("c", "z")], *deeper, "Done.", "Done."], "flood")
    drive(place, lambda r: r.run(helper, "Go."))
    first = results(said.seen[1].messages)
    assert [one.error for one in first] == [False, True, True]
    last = results(said.seen[-1].messages)
    assert sum(not one.error for one in last) == DEPTH and "conclude s8 first" in last[-1].text


def test_a_flood_of_recalls_is_refused(place: str) -> None:
    many = [ToolCall(id=f"{n}", name="recall", arguments={"id": "s1"}) for n in range(70)]
    helper, said = agent([begin("Sky"), conclude("Blue"), many, "Done."], "recalls")
    drive(place, lambda r: r.run(helper, "Go."))
    told = results(said.seen[-1].messages)[1:]
    assert [one.error for one in told] == [False] * PAGES + [True] * (70 - PAGES)


def test_a_subtask_is_concluded_alone_so_that_no_result_is_lost(place: str) -> None:
    helper, said = agent([begin("Sky"), [looking("sky"), conclude("Blue")], conclude("Blue", "f"), "Done."], "alone")
    drive(place, lambda r: r.run(helper, "Go."))
    told = results(said.seen[2].messages)
    assert [one.error for one in told] == [False, False, True] and "alone" in told[2].text
    assert results(said.seen[3].messages)[0].text.startswith("s1 is finished: Blue")


def test_a_conversation_that_is_gone_on_with_has_its_tree(place: str) -> None:
    helper, said = agent([begin("Sky"), looking("sky"), conclude("Blue"), "One.", recall("s1"), begin("Sea", "c"),
                          conclude("Green", "d"), "Two."], "again")  # fmt: skip

    @weft.workflow
    async def talk() -> None:
        first = await helper.conversation().say("Go.")
        await helper.conversation(first.messages).say("Go on.")

    drive(place, lambda r: r.run(talk))
    assert [m.text for m in said.seen[4].messages if m.text] == ["Go.", "One.", "Go on."]
    told = [one.text for one in results(said.seen[-1].messages)]
    assert told[0].startswith("s1 is finished: Blue") and "sky is blue" in told[1]
    assert told[2].startswith("s2 is finished: Green")


def test_undone_subtasks_are_open_again(place: str) -> None:
    helper, said = agent([begin("Sky"), looking("sky"), "One.", "One.", conclude("Blue"), "Two.", conclude("Red"),
                          "Three."], "undone")  # fmt: skip

    @weft.workflow
    async def talk() -> None:
        talk = helper.conversation()
        await talk.say("Go.")
        length = len(talk.messages)
        await talk.say("Go on.")
        talk.undo(length)
        await talk.say("Once more.")

    drive(place, lambda r: r.run(talk))
    assert results(said.seen[5].messages)[0].text.startswith("s1 is finished: Blue")
    assert results(said.seen[7].messages)[0].text.startswith("s1 is finished: Red")


def test_late_results_of_calls_outside_of_a_subtask_stay(place: str) -> None:
    @tool(slow=True)
    async def count(what: str) -> str:
        """Count."""
        return f"7 {what}"

    def counting(what: str) -> ToolCall:
        return ToolCall(id=f"c-{what}", name="count", arguments={"what": what})

    waiting = ToolCall(id="w", name="wait", arguments={"until": "all"})
    lines = [counting("owls"), begin("Mice"), [counting("mice"), waiting], conclude("7"), "Done."]
    helper, said = agent(lines, "late", tools=[count])
    drive(place, lambda r: r.run(helper, "Count."))
    text = rendered(said.seen[-1].messages)
    assert "s1 is finished: 7" in text and "7 owls" in text and "7 mice" not in text
    assert repair(said.seen[-1].messages)[1] == []


# --- compaction -------------------------------------------------------------------------------------------------------


def turns(count: int) -> list[Any]:
    return [looking(f"thing {n}") for n in range(count)]


def test_old_turns_make_room_for_a_summary_when_the_prompt_comes_to_its_limit(store: str) -> None:
    helper, said = agent([*turns(30), recall("c1"), "Done."], "long", context=Context(tokens=1500))
    answer = drive(store, lambda r: r.run(helper, "Look at all things."))
    assert answer.output == "Done." and answer.turns == 32
    assert max(length(request) for request in said.seen[:-1]) <= 1500
    last = said.seen[-2].messages
    assert last[0].text.startswith("Look at all things.") and "A summary." in last[0].text
    assert "thing 29 is blue" in results(last)[-1].text
    assert "thing 0 is blue" in results(answer.messages)[-1].text
    assert not any("recall" in [spec.name for spec in one.tools] for one in said.seen[:3])
    assert len(ran) == 30


@pytest.mark.parametrize("policy", [Cut(), Summary(50)], ids=["cut", "summary"])
def test_a_provider_that_refuses_the_prompt_is_asked_once_more(store: str, policy: Any) -> None:
    refused: list[int] = []

    def strict(line: Any) -> Callable[[Request], Any]:
        def say(request: Request) -> Any:
            if length(request) > 1000:
                said.seen.pop()
                refused.append(length(request))
                return PromptTooLong("1000 tokens at most")
            return line

        return say

    helper, said = agent([*map(strict, turns(20)), "Done."], "strict", context=Context(compact=policy))
    answer = drive(store, lambda r: r.run(helper, "Look at all things."))
    assert answer.output == "Done." and len(ran) == 20
    assert 1 <= len(refused) <= 2, "what was refused once is not tried again"
    assert ("A summary." in said.seen[-1].messages[0].text) is (policy != Cut())


def test_a_run_that_can_t_go_on_says_so(place: str) -> None:
    helper, said = agent([PromptTooLong("10 tokens at most")], "hopeless", context=Context())
    with pytest.raises(PromptTooLong):
        drive(place, lambda r: r.run(helper, "Look."))
    never, asked = agent([*turns(2), PromptTooLong("at most")], "never", context=Context(compact=None))
    with pytest.raises(PromptTooLong):
        drive(place, lambda r: r.run(never, "Look."))
    assert (len(said.seen), len(asked.seen)) == (1, 3)


def test_a_prompt_that_never_fits_is_not_compacted_for_ever(place: str) -> None:
    """The first thing said alone is over the limit: the provider decides."""
    helper, said = agent([*turns(6), "Done."], "large", context=Context(tokens=100))
    made: list[Request] = []

    def sums(request: Request) -> Any:
        if request.messages[0].text.startswith("Sum up"):
            made.append(request)
        return said(request)

    script(sums, name="large")
    assert drive(place, lambda r: r.run(helper, "Look. " * 200)).output == "Done."
    assert len(made) <= 6


def test_a_summary_that_fails_leaves_the_marker(place: str) -> None:
    helper, said = agent([*turns(12), "Done."], "failing", context=Context(tokens=1500))

    def model(request: Request) -> Any:
        return ModelBusy("no") if request.messages[0].text.startswith("Sum up") else said(request)

    script(model, name="failing")
    helper.model = Model("script:failing", retries=1)
    assert drive(place, lambda r: r.run(helper, "Look.")).output == "Done."
    assert "recall('c1')" in said.seen[-1].messages[0].text


def test_one_result_that_is_larger_than_the_context_is_left_out(place: str) -> None:
    @tool(effect="pure")
    async def flood() -> str:
        """Say much."""
        return "much. " * 3_000

    lines: list[Any] = [
        ToolCall(id="f", name="flood"),
        recall("c1"),
        recall("c1", page=2),
        recall("c1", page=99),
        "Done.",
    ]
    helper, said = agent(lines, "flooded", tools=[flood], context=Context(tokens=2000))
    assert drive(place, lambda r: r.run(helper, "Go.")).output == "Done."
    assert all(length(request) < 2000 for request in said.seen)
    assert "page 1 of" in results(said.seen[2].messages)[-1].text
    assert "has pages 1 to" in results(said.seen[-1].messages)[-1].text


def test_the_last_words_of_people_stay(place: str) -> None:
    helper, said = agent(["Hm.", *turns(15), "Done."], "last", context=Context(tokens=1500, compact=Cut()))

    @weft.workflow
    async def talk() -> None:
        talk = helper.conversation()
        await talk.say("You will look at things.")
        await talk.say("Look at the blue ones.")

    drive(place, lambda r: r.run(talk))
    first = said.seen[-1].messages[0].text
    assert first.startswith("You will look at things.") and first.endswith("Look at the blue ones.")


def test_who_watches_and_who_pays_is_told_of_it(place: str) -> None:
    helper, said = agent([*turns(12), "Done."], "watched", context=Context(tokens=1500))

    def model(request: Request) -> Any:
        summary = request.messages[0].text.startswith("Sum up")
        line = said(request)
        message = Message("assistant", line)
        return Reply(message=message, usage=Usage(output=1000 if summary else 1), finish="stop")

    script(model, name="watched")

    @weft.workflow
    async def watch() -> list[Any]:
        return [event async for event in helper.conversation().events("Look.")]

    events = drive(place, lambda r: r.run(watch))
    compacted = [event for event in events if isinstance(event, Compacted)]
    (ended,) = [event for event in events if isinstance(event, Ended)]
    assert [one.id for one in compacted] == [f"c{n + 1}" for n in range(len(compacted))] and compacted
    assert ended.answer.usage.output == 1000 * len(compacted) + 13
    assert all(one.start == 0 and one.shown[0].role == "user" for one in compacted)


def test_a_subtask_whose_beginning_was_compacted_is_concluded_all_the_same(place: str) -> None:
    lines = [begin("All things"), *turns(20), conclude("All blue"), recall("s1"), "Done."]
    helper, said = agent(lines, "both", context=Context(subtasks=True, tokens=2200, compact=Cut()))
    drive(place, lambda r: r.run(helper, "Look at all things."))
    before, after = said.seen[21].messages, said.seen[22].messages
    assert "Open: s1 (All things)" in before[0].text
    assert [m.role for m in after] == ["user", "assistant", "tool"]
    assert after[2].results[0].text.startswith("s1 is finished: All blue")
    assert "thing 0 is blue" in results(said.seen[23].messages)[-1].text


def test_under_a_limit_of_tokens_nothing_is_asked_besides(place: str) -> None:
    """What was reckoned for a turn is what it costs: old turns are cut, not summed up."""
    helper, said = agent(
        [*turns(20), "Done."], "limited", context=Context(tokens=1500), turns=Fixed(Budget(tokens=40_000))
    )

    def model(request: Request) -> Any:
        assert not request.messages[0].text.startswith("Sum up")
        message = Message("assistant", said(request))
        return Reply(message=message, usage=Usage(input=length(request), output=10), finish="stop")

    script(model, name="limited")
    answer = drive(place, lambda r: r.run(helper, "Look."))
    assert answer.output == "Done." and "recall('c" in said.seen[-1].messages[0].text
    assert answer.usage.input + answer.usage.output <= 40_000


# --- after a crash, in a fork -----------------------------------------------------------------------------------------


def test_a_fork_recalls_what_was_dropped_and_sums_up_nothing_twice(store: str) -> None:
    summaries: list[int] = []
    lines = [*turns(12), lambda _: ModelBusy("not now"), recall("c1"), "Done."]
    helper, said = agent(lines, "forked", context=Context(tokens=1500))

    def model(request: Request) -> Any:
        if request.messages[0].text.startswith("Sum up"):
            summaries.append(1)
        return said(request)

    script(model, name="forked")
    helper.model = Model("script:forked", retries=1)

    async def fork(runtime: weft.Runtime) -> Any:
        run = await runtime.start(helper, "Look.")
        with pytest.raises(ModelBusy):
            await run
        before = len(summaries)
        records = [one for one in await runtime.recovery.records(run.id) if isinstance(one, Outcome)]
        assert [one.name for one in records].count("agent.compact") == before >= 1
        failed = next(one.effect for one in records if not one.ok)
        answer = await (await runtime.fork(run.id, at=failed))
        assert len(summaries) == before
        return answer

    answer = drive(store, fork)
    assert answer.output == "Done." and len(ran) == 12
    assert "thing 0 is blue" in results(answer.messages)[-1].text


def test_a_killed_run_goes_on_in_another_process_and_recalls_what_was_dropped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.crash.contexts", str(tmp_path / "journal.db"), str(tmp_path / "log")]
    environment = {**os.environ, "WEFT_POLICY": "all", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert first.returncode == -signal.SIGKILL, first.stderr
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60, text=True)
    assert second.returncode == 0, second.stderr
    assert "thing 0 is blue" in second.stdout and "Which colour is it?" in second.stdout
    log = (tmp_path / "log").read_text().split("\n")[:-1]
    assert len(log) == len(set(log)), "no summary and no call is made twice"
    assert any(line.startswith("summary") for line in log) and "thing 9" in log


# --- results by reference ---------------------------------------------------------------------------------------------


def test_a_long_result_is_shown_in_part_and_read_by_its_address(place: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("WEFT_OUTPUTS", str(tmp_path / "outputs"))

    @tool(effect="pure")
    async def log() -> str:
        """The log."""
        return "".join(f"line {n}\n" for n in range(1, 2001))

    def read(request: Request) -> ToolCall:
        ref = re.findall(r"[0-9a-f]{32}", results(request.messages)[0].text)[0]
        return ToolCall(id="2", name="read_output", arguments={"ref": ref, "start": 1000, "lines": 1})

    helper, said = agent(
        [ToolCall(id="1", name="log"), read, "Done."], "reader", tools=[log], context=Context(results=600)
    )
    drive(place, lambda r: r.run(helper, "Read."))
    first, second = results(said.seen[-1].messages)
    assert len(first.text) < 900 and "line 1\n" in first.text and "line 2000" in first.text
    assert "line 1000" in second.text and "search_output" in [spec.name for spec in said.seen[0].tools]


# --- the layout -------------------------------------------------------------------------------------------------------


def test_instructions_are_made_once_for_a_conversation_also_by_an_effect(store: str) -> None:
    made: list[int] = []

    @weft.step
    async def day() -> str:
        made.append(1)
        return "Monday"

    async def instructions() -> str:
        return f"Today is {await day()}."

    helper, said = agent([*turns(3), "Done."], "instructed", instructions=instructions)
    drive(store, lambda r: r.run(helper, "Look."))
    assert made == [1] and {request.messages[0].text for request in said.seen} == {"Today is Monday."}


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_the_model_does_prompts_are_sound_and_grow_at_their_end(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    moves = st.sampled_from(["look", "look", "look", "two", "begin", "conclude", "recall", "say"])
    lines: list[Any] = []
    for n, move in enumerate(data.draw(st.lists(moves, max_size=40))):
        lines.append(
            {
                "look": looking(f"thing {n}"),
                "two": [looking(f"thing {n}"), looking(f"other {n}")],
                "begin": begin(f"Goal {n}", f"b{n}"),
                "conclude": conclude(f"Found {n}", f"e{n}"),
                "recall": recall(data.draw(st.sampled_from(["s1", "s2", "c1"]))),
                "say": "Is that it?",
            }[move]
        )
    tokens = data.draw(st.sampled_from([None, 1200, 2500]))
    helper, said = agent([*lines, *["Done."] * 99], "any", turns=200, context=Context(subtasks=True, tokens=tokens))
    wanted = data.draw(st.integers(1, 3))

    @weft.workflow
    async def talk() -> list[Message]:
        talk = helper.conversation()
        for n in range(wanted):
            await talk.say(f"Thing number {n}?")
        return talk.messages

    messages = drive(f"{tmp_path_factory.mktemp('any')}/journal.db", lambda r: r.run(talk))
    for request in said.seen:
        assert not [one for one in repair(request.messages)[1] if "two messages" not in one], "calls keep their results"
        assert "Thing number 0?" in request.messages[0].text
    for before, after in pairwise(said.seen):
        same = shared(before.messages, after.messages)
        rest = before.messages[same:]
        folded = any("is finished" in r.text for m in after.messages[same : same + 2] for r in m.results)
        assert not rest or folded or "recall('c" in after.messages[same].text, "only folds change what was there"
    assert all(f"Thing number {n}?" in "".join(m.text for m in messages) for n in range(wanted))


def shared(one: list[Message], other: list[Message]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_instructions_by_template_hold_memory_and_files(store: str, tmp_path: Path) -> None:
    notes = weft.Memory("context.notes", str)
    (tmp_path / "desk.md").write_text("It costs $$5. $day: ${notes}")

    async def noted() -> str:
        async with notes.operation() as op:
            return await op.read("plan", "nothing")

    template = Template(tmp_path / "desk.md", day="Monday", notes=noted)
    helper, said = agent(["One.", "Two.", "Three."], "template", instructions=template)

    @weft.workflow
    async def talk() -> None:
        talk = helper.conversation()
        await talk.say("Go.")
        async with notes.operation() as op:
            op.write("plan", "owls")
        await talk.say("Go on.")
        await helper.conversation().say("Go.")

    drive(store, lambda r: r.run(talk))
    expected = ["It costs $5. Monday: nothing", "It costs $5. Monday: nothing", "It costs $5. Monday: owls"]
    assert [one.messages[0].text for one in said.seen] == expected


@pytest.mark.parametrize(
    ("text", "values", "why"),
    [
        ("$day", {}, r"place \$day, and no value"),
        ("Hello", {"day": "Monday"}, r"no place \$day; it has none"),
        ("It costs $5", {}, r"write \$\$"),
        (Path("/nowhere/at/all"), {}, "can't be read"),
    ],
    ids=["no value", "no place", "dollar", "no file"],
)
def test_a_template_that_can_t_be_filled_is_refused(text: Any, values: dict[str, str], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        Template(text, **values)


def test_a_run_with_the_embedded_model_works_past_its_context(place: str) -> None:
    """The real small model reads every prompt and says some words; which tool is called is scripted, for it can't
    choose. More is said than its context holds, and what a finished subtask took is free again."""

    @tool(effect="pure")
    def glance(at: int) -> str:
        """Look."""
        ran.append(at)
        return f"{at} is blue. " * 10

    def glances(*at: int) -> list[ToolCall]:
        return [ToolCall(id=f"{one}", name="glance", arguments={"at": one}) for one in at]

    lines = [begin("All", "a"), *glances(1, 2), conclude("Blue", "b"), *glances(3, 4, 5, 6, 7)]
    model = Driven(local("smollm2-135m", context=512), lines)
    helper: Agent[str] = Agent(model, name="embedded", tools=[glance], context=Context(subtasks=True, compact=Cut()))
    answer = drive(place, lambda r: r.run(helper, "Look at all things."))
    assert answer.turns == len(lines) + 1 and ran == [*range(1, 8)]
    assert length(Request(messages=answer.messages)) > 512 > max(model.prompts)
    assert model.prompts[4] < model.prompts[3] - 100, "the subtask's steps are gone"
    assert model.kept[4] > model.prompts[4] / 2, "and what stood before them is still in the cells"


class Driven(Asked):
    """A real model, whose calls are scripted."""

    def __init__(self, model: Model, lines: list[ToolCall]) -> None:
        self.model, self.lines, self.spec = model, lines, model.spec
        self.prompts: list[int] = []
        """Tokens of each."""
        self.kept: list[int] = []
        """Those of them that the engine had already."""

    @property
    def embedded(self) -> bool:
        return True

    async def ask(self, request: Request, stream: str = "") -> Reply:
        reply = await self.model.ask(msgspec.structs.replace(request, tools=[], max_tokens=4), stream)
        self.prompts.append(reply.usage.input)
        self.kept.append(reply.usage.cache_read)
        if len(self.prompts) > len(self.lines):
            return reply
        return msgspec.structs.replace(
            reply, message=Message("assistant", [reply.text, self.lines[len(self.prompts) - 1]])
        )


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"tokens": 1.5}, {"results": 3}, {"tokens": "many"}], ids=str)
def test_a_context_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="at least 100"):
        Context(**wrong)


def test_a_tool_of_a_name_that_the_context_needs_is_refused() -> None:
    with pytest.raises(BadInput, match="two tools are named 'conclude'"):
        agent([], "names", tools=[look.renamed("conclude")])
