"""How agents spend turns, tokens, money and seconds: policies, evidence, reserves for a last turn, crashes, reports."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive, fresh, ran
from weft.agent import Agent, Answer, Calibrated, Dynamic, Ended, Fixed, Pace, Taken, TurnStarted
from weft.agent.context.window import LEFT_OUT
from weft.agent.conversation import said
from weft.agent.past import spent_by
from weft.core.budget import Budget
from weft.core.errors import BadInput
from weft.core.progress import Made, Progress, Signs, nearest_rank, outcome
from weft.model import Message, Request, script
from weft.model.generate import length
from weft.model.request import Reply, Usage
from weft.store import open_store
from weft.tool import ToolCall, tool
from weft.trace.turns import report_of

__all__ = ["fresh"]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A file alone, where the store makes no difference."""
    return str(tmp_path / "journal.db")


@tool(effect="pure")
async def look(at: int = 0) -> str:
    """Look somewhere."""
    ran.append(at)
    return f"There is {at}."


@tool
async def write(text: str) -> str:
    """Write something."""
    ran.append(text)
    return "written"


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(id=f"c{len(ran)}", name=name, arguments=arguments)


def reply(line: Any, request: Request, output: int = 40) -> Reply:
    """With the usage that it has: the prompt's as Weft reckons it."""
    called = isinstance(line, ToolCall)
    output = min(output, request.max_tokens or output)
    usage = Usage(input=length(request), output=output)
    return Reply(message=Message("assistant", line), finish="tool_call" if called else "stop", usage=usage)


class Busy:
    """A model that always wants one more call; when it may call nothing, it hands in."""

    def __init__(self, output: int = 40, words: str = "As far as I came.", deaf: bool = False) -> None:
        self.asked: list[Request] = []
        self.output = output
        self.words = words
        self.deaf = deaf

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        last = request.tool_choice == "none" and not self.deaf
        return reply(self.words if last else call("look", at=len(self.asked)), request, self.output)

    @property
    def used(self) -> int:
        return sum(length(request) + min(self.output, request.max_tokens or self.output) for request in self.asked)


def go(place: str, agent: Any, **options: Any) -> Answer[Any]:
    answer: Answer[Any] = drive(place, lambda r: r.run(agent, "Go."), **options)
    return answer


def notes(request: Request) -> list[int]:
    """How many turns the model was told are left, each time."""
    return [int(found) for m in request.messages for found in re.findall(r"\n\[(\d+) turns are left", m.text)]


# --- what a turn brought ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("==== 3 passed, 1 failed in 0.1s ====", (3, 1)),
        ("===== 12 passed in 0.2s =====", (12, 0)),
        ("1 failed, 2 errors in 3s", (0, 3)),
        ("Ran 5 tests in 0.01s\n\nOK", (5, 0)),
        ("Ran 5 tests in 0.01s\n\nFAILED (failures=1, errors=1)", (3, 2)),
        ("test result: ok. 7 passed; 0 failed; 0 ignored", (7, 0)),
        ("Tests:       1 failed, 4 passed, 5 total", (4, 1)),
        ("There were 3 errors in the log.", None),
        ("", None),
    ],
)
def test_outcomes_of_tests_are_read_from_what_is_printed(text: str, expected: tuple[int, int] | None) -> None:
    assert outcome(text) == expected


def saw(*turns: Sequence[Made]) -> list[Signs]:
    progress = Progress()
    return [progress.saw(turn) for turn in turns]


def test_what_was_read_before_is_nothing_new() -> None:
    first, again, other = saw(
        [Made("read", {"path": "a"}, "A")], [Made("read", {"path": "a"}, "A")], [Made("read", {"path": "b"}, "B")]
    )
    assert (first.found, first.repeated, first.productive) == (1, 0, True)
    assert (again.found, again.repeated, again.productive) == (0, 1, False)
    assert other.productive


def test_after_a_change_looking_again_is_no_repetition_and_the_same_change_is_one() -> None:
    edit = Made("edit", {"old": "a", "new": "b"}, "done", changes=True)
    read, changed, reread, twice = saw([Made("read", {}, "A")], [edit], [Made("read", {}, "B")], [edit])
    assert (changed.changed, reread.found, reread.repeated) == (1, 1, 0) and read.productive
    assert (twice.changed, twice.repeated) == (0, 1)


def test_calls_that_fail_bring_nothing() -> None:
    (signs,) = saw([Made("edit", {}, "no such file", error=True, changes=True)])
    assert (signs.failed, signs.changed, signs.productive) == (1, 0, False)


def test_tests_are_clean_when_all_pass_after_the_last_change() -> None:
    edit = Made("edit", {"n": 1}, "ok", changes=True)
    more = Made("edit", {"n": 2}, "ok!", changes=True)
    test = Made("test", {}, "1 failed, 4 passed")
    good = Made("test", {}, "5 passed")
    turns = saw([edit], [test], [good], [Made("read", {}, "A")], [more])
    assert [one.clean for one in turns] == [False, False, True, True, False]
    assert [one.passed for one in turns] == [False, True, True, False, False]


# --- policies ---------------------------------------------------------------------------------------------------------


def taken(*signs: Signs) -> list[Taken]:
    return [Taken(one, at + 1, 100 * (at + 1), 0.5 * (at + 1), 10.0 * (at + 1)) for at, one in enumerate(signs)]


NOTHING, FOUND, CHANGED = Signs(calls=1), Signs(calls=1, found=1), Signs(calls=1, found=1, changed=1)
CLEAN, REPEATED = Signs(calls=1, passed=True, clean=True), Signs(calls=1, repeated=1)
QUIET = Signs(calls=1, clean=True)


@pytest.mark.parametrize(
    ("past", "turns"),
    [
        ([], 5),
        ([NOTHING] * 4, 5),
        ([FOUND] * 4, 7),
        ([CHANGED, NOTHING], 4),
        ([CHANGED, FOUND, FOUND, FOUND], 4),
        ([CHANGED] * 9, 10),
        ([CHANGED, CLEAN], 5),
        ([CHANGED, CLEAN, QUIET], 4),
        ([CHANGED, REPEATED, REPEATED, REPEATED], 4),
        ([FOUND, REPEATED, REPEATED], 5),
        ([REPEATED] * 3, 4),
        ([CLEAN, QUIET], 5),
        ([FOUND] * 2, 5),
    ],
    ids=[str(number) for number in range(13)],
)
def test_evidence_extends_a_dynamic_limit_and_its_lack_ends_it(past: list[Signs], turns: int) -> None:
    assert Dynamic(5, more=3, most=10).limits(taken(*past)).turns == turns


def test_all_kinds_are_extended_from_where_the_evidence_was() -> None:
    pace = Dynamic(Budget(turns=5, tokens=500), more=Budget(turns=3, tokens=150), most=Budget(money=9))
    limits = pace.limits(taken(NOTHING, CHANGED, NOTHING))
    assert (limits.turns, limits.tokens, limits.money) == (5, 350, 9)


def test_what_counts_as_evidence_can_be_said() -> None:
    pace = Dynamic(2, more=4, evidence=lambda signs, changed: signs.failed > 0)
    assert pace.limits(taken(CHANGED, Signs(calls=1, failed=1))).turns == 6


@given(
    st.lists(st.sampled_from([NOTHING, FOUND, CHANGED, CLEAN, QUIET, REPEATED]), max_size=30),
    st.integers(1, 10), st.integers(1, 10), st.integers(1, 30),
)  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_dynamic_limit_never_passes_its_most(past: list[Signs], start: int, more: int, most: int) -> None:
    limits = Dynamic(start, more=more, most=most).limits(taken(*past))
    assert limits.turns is not None and limits.turns <= most


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 100))
def test_nearest_rank_is_the_smallest_that_enough_values_do_not_exceed(values: list[int], percentile: int) -> None:
    found = nearest_rank(values, percentile)
    assert found in values
    assert 100 * sum(one <= found for one in values) >= percentile * len(values)
    assert 100 * sum(one < found for one in values) < percentile * len(values)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Agent("script:x", turns=0), lambda: Agent("script:x", turns=True),
        lambda: Agent("script:x", turns="ten"),  # type: ignore[arg-type]
        lambda: Fixed(0), lambda: Fixed(1.5), lambda: Fixed(Budget(effects=3)), lambda: Fixed(Budget(turns=0)),
        lambda: Dynamic(3, more=0), lambda: Dynamic(3, more=Budget(tokens=9)), lambda: Dynamic(3, more=1, quiet=-1),
        lambda: Calibrated(0), lambda: Calibrated(101), lambda: Calibrated(of=[]), lambda: Calibrated(of=["effects"]),
        lambda: Calibrated(least=0), lambda: Calibrated(least=9, runs=5), lambda: nearest_rank([], 75),
        lambda: nearest_rank([1], 0),
    ],
    ids=[str(number) for number in range(18)],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(bad: Any) -> None:
    with pytest.raises(BadInput):
        bad()


# --- what the model is told -------------------------------------------------------------------------------------------


def test_a_fixed_limit_tells_what_is_left_at_each_turn_and_never_rewrites_it(store: str) -> None:
    model = Busy()
    answer = go(store, Agent(script(model), name="told", tools=[look], turns=Fixed(4)))
    assert (answer.ended, answer.turns, answer.output, len(ran)) == ("limit", 4, "As far as I came.", 3)
    assert notes(model.asked[-1]) == [4, 3, 2]
    for before, after in zip(model.asked, model.asked[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages  # so the provider's cache holds


def test_a_number_is_a_limit_that_is_told_at_its_end_only(place: str) -> None:
    model = Busy()
    answer = go(place, Agent(script(model), name="plain", tools=[look], turns=3))
    assert answer.ended == "limit" and not notes(model.asked[-1])


def test_a_dynamic_limit_is_told_towards_its_end(place: str) -> None:
    model = Busy()
    answer = go(place, Agent(script(model), name="dynamic", tools=[look], turns=Dynamic(4, more=2, most=7)))
    assert answer.turns == 7 and notes(model.asked[-1]) == [4, 3, 2, 2, 2, 2]


def test_an_agent_that_goes_round_in_a_circle_is_asked_to_hand_in(place: str) -> None:
    def model(request: Request) -> Any:
        return "Round and round." if request.tool_choice == "none" else call("look", at=7)

    answer = go(place, Agent(script(model), name="circle", tools=[look], turns=Dynamic(30, more=20)))
    assert (answer.ended, answer.output, answer.turns) == ("limit", "Round and round.", 5)


def test_an_agent_whose_tests_pass_is_asked_to_hand_in(place: str) -> None:
    @tool(effect="pure")
    async def run_tests() -> str:
        return "4 passed"

    lines = [call("write", text="fix"), call("run_tests"), call("look", at=1), "Fixed.", "Fixed, too late."]
    seen: list[str] = []

    def model(request: Request) -> Any:
        seen.append(request.tool_choice)
        return lines[len(seen) - 1]

    answer = go(place, Agent(script(model), name="done", tools=[write, run_tests, look], turns=Dynamic(20, more=9)))
    assert (answer.output, seen) == ("Fixed.", ["auto", "auto", "auto", "none"])


# --- never overrun ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["policy", "process"])
@pytest.mark.parametrize("tokens", [60, 400, 1500, 4000])
def test_tokens_are_kept_for_a_last_turn_and_never_overrun(store: str, whose: str, tokens: int) -> None:
    model = Busy(output=100_000)  # it answers as long as it may
    limit = Budget(tokens=tokens)
    agent = Agent(script(model), name="thrifty", tools=[look], turns=Fixed(limit) if whose == "policy" else None)
    answer = go(store, agent if whose == "policy" else agent.options(budget=limit))
    assert answer.ended == "limit" and model.used <= tokens
    assert answer.output == ("As far as I came." if model.asked else "")
    assert bool(model.asked) == (tokens > 60)


@pytest.mark.parametrize("whose", ["policy", "process"])
def test_money_is_kept_for_a_last_turn_and_never_overrun(
    place: str, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prices.toml").write_text('[script]\n"*" = { input = 1.0, output = 4.0 }\n')
    monkeypatch.setenv("WEFT_PRICES", str(tmp_path / "prices.toml"))
    model = Busy(output=100_000)
    agent = Agent(script(model), name="poor", tools=[look], turns=Fixed(Budget(money=0.01)) if whose == "policy" else 9)
    answer = go(place, agent if whose == "policy" else agent.options(budget=Budget(money=0.01)))
    assert answer.ended == "limit" and answer.output == "As far as I came."
    assert answer.money is not None and 0 < answer.money <= 0.01


def test_what_the_last_calls_returned_is_left_out_where_it_does_not_fit(place: str) -> None:
    @tool(effect="pure")
    async def flood() -> str:
        return "all of it " * 2000

    seen: list[list[str]] = []

    def model(request: Request) -> Reply:
        seen.append([m.text for m in request.messages] + [r.text for m in request.messages for r in m.results])
        return reply("Cut." if request.tool_choice == "none" else call("flood"), request, 100_000)

    answer = go(place, Agent(script(model), name="flooded", tools=[flood]).options(budget=Budget(tokens=3000)))
    assert (answer.output, answer.ended, answer.turns) == ("Cut.", "limit", 2)
    assert LEFT_OUT in seen[1][0] and not any("all of it" in text for text in seen[1])
    assert answer.usage.input + answer.usage.output <= 3000


def test_turns_of_a_process_are_charged_to_its_budget(store: str) -> None:
    model = Busy()
    agent = Agent(script(model), name="charged", tools=[look], turns=None)

    @weft.workflow
    async def twice() -> list[str]:
        talk = agent.conversation()
        return [(await talk.say(words)).output for words in ("a", "b")]

    assert drive(store, lambda r: r.run(twice.options(budget=Budget(turns=5)))) == ["As far as I came.", ""]
    assert len(model.asked) == 5


@pytest.mark.parametrize("effects", [0, 1, 2, 3, 4, 8])
def test_effects_are_kept_for_a_last_turn(place: str, effects: int) -> None:
    model = Busy()
    answer = go(place, Agent(script(model), name="few", tools=[look]).options(budget=Budget(effects=effects)))
    assert len(model.asked) + len(ran) <= effects
    assert answer.ended == "limit" and (answer.output == "As far as I came.") == (effects > 0)


def test_of_calls_that_the_budget_does_not_cover_the_first_are_made(place: str) -> None:
    def model(request: Request) -> Any:
        calls = [ToolCall(id=f"c{n}", name="look", arguments={"at": n}) for n in range(9)]
        return "Some." if request.tool_choice == "none" else calls

    agent = Agent(script(model), name="many", tools=[look])
    answer = go(place, agent.options(budget=Budget(effects=6)))
    assert answer.output == "Some." and sorted(ran) == [0, 1, 2, 3]


def test_seconds_are_kept_for_a_last_turn_and_a_slow_model_is_not_waited_for(store: str) -> None:
    asked: list[str] = []

    async def model(request: Request) -> Any:
        asked.append(request.tool_choice)
        if request.tool_choice != "none":
            await asyncio.Event().wait()
        return "In time."

    agent = Agent(script(model), name="hurried", tools=[look], turns=Fixed(Budget(seconds=3)))
    answer = go(store, agent)
    assert (answer.output, answer.ended, asked) == ("In time.", "limit", ["auto", "none"])


@pytest.mark.parametrize("whose", ["policy", "process"])
def test_tools_that_never_return_are_given_up_when_the_seconds_are_over(place: str, whose: str) -> None:
    @tool(effect="pure")
    async def stuck(at: int = 0) -> str:
        await asyncio.Event().wait()
        return "never"

    def model(request: Request) -> Any:
        calls = [ToolCall(id=f"c{n}", name="stuck", arguments={"at": n}) for n in range(2)]
        return "Without them." if request.tool_choice == "none" else calls

    limit = Budget(seconds=4)
    agent = Agent(script(model), name="waits", tools=[stuck], turns=Fixed(limit) if whose == "policy" else None)
    answer = go(place, agent if whose == "policy" else agent.options(budget=limit))
    assert (answer.output, answer.ended) == ("Without them.", "limit")


def test_a_model_that_does_not_answer_at_the_end_either_hands_in_what_it_said(place: str) -> None:
    async def model(request: Request) -> Any:
        if len(request.messages) > 1:
            await asyncio.Event().wait()
        return Message("assistant", ("So far: owls.", call("look")))

    answer = go(place, Agent(script(model), name="hangs", tools=[look], turns=Fixed(Budget(seconds=0.5))))
    assert (answer.output, answer.ended) == ("So far: owls.", "limit")


def test_a_typed_answer_that_nobody_could_give_is_none(place: str) -> None:
    answer = go(place, Agent(script(Busy()), name="typed", output=int, tools=[look], turns=Fixed(Budget(tokens=10))))
    assert (answer.output, answer.ended, answer.turns) == (None, "limit", 0)


def test_calls_that_outlast_their_turn_end_with_the_budget(place: str) -> None:
    model = Busy()
    agent = Agent(script(model), name="handled", tools=[look], asynchronous=True)
    answer = go(place, agent.options(budget=Budget(effects=8)))
    assert answer.ended == "limit" and answer.output == "As far as I came." and len(model.asked) + len(ran) <= 8


# --- sub-agents -------------------------------------------------------------------------------------------------------


def test_a_sub_agent_leaves_enough_for_the_last_turn_of_its_parent(store: str) -> None:
    child, model = Busy(output=100_000), Busy(output=300)
    inner = Agent(script(child, name="inner"), name="inner", tools=[look], turns=None)
    seen: list[str] = []

    def parent(request: Request) -> Reply:
        seen.append(request.tool_choice)
        results = [result.text for message in request.messages for result in message.results]
        model.asked.append(request)
        wanted = "Both: " + " ".join(results) if results else [
            ToolCall(id=f"c{n}", name="ask_inner", arguments={"prompt": f"Look {n}."}) for n in range(2)
        ]  # fmt: skip
        finish: Any = "stop" if results else "tool_call"
        usage = Usage(input=length(request), output=min(300, request.max_tokens or 300))
        return Reply(message=Message("assistant", wanted), finish=finish, usage=usage)

    outer = Agent(script(parent, name="outer"), name="outer", tools=[inner.as_tool()])
    answer = go(store, outer.options(budget=Budget(tokens=8000)))
    assert answer.output.count("As far as I came.") == 2 and answer.output.count("came to a limit") == 2
    assert child.used + model.used <= 8000


# --- words in between, crashes, the past ------------------------------------------------------------------------------


async def until(true: Any) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that in 20 s")


def test_words_at_the_limit_widen_nothing_and_are_told_once(store: str) -> None:
    """A generation that is left costs what it might have cost."""
    asked: list[Request] = []

    async def model(request: Request) -> Reply:
        asked.append(request)
        if len(asked) == 2:
            ran.append("thinking")
            await asyncio.Event().wait()
        return reply(call("look") if request.tool_choice != "none" else "Here.", request)

    async def use(runtime: weft.Runtime) -> Answer[str]:
        agent = Agent(script(model), name="limited", tools=[look], turns=Fixed(3))
        run = await runtime.start(agent, "Go.")
        await until(lambda: "thinking" in ran)
        await runtime.send(run.id, said.name, "Hurry.")
        return await run

    answer = drive(store, use)
    assert (answer.output, answer.ended, answer.turns) == ("Here.", "limit", 3)
    assert notes(asked[-1]) == [3, 2]
    assert len(asked) == 4


def test_a_killed_agent_goes_on_with_the_counts_that_it_had(tmp_path: Path) -> None:
    place, log = tmp_path / "journal.db", tmp_path / "log"
    command = [sys.executable, "-m", "tests.crash.turns", str(place), str(log)]
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "WEFT_POLICY": "all", "PATH": ""}
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "stuck\n"  # in the call of its third turn
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True)
    answer = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert answer == {"ended": "limit", "turns": 5, "output": "As far as I came.", "told": [5, 4, 3, 2]}
    asked = log.read_text().split()
    assert asked == ["1", "2", "3", "4", "5"]  # no generation was asked for twice


def test_a_limit_is_calibrated_from_runs_that_ended_by_themselves(store: str) -> None:
    lengths = [2, 3, 4, 5, 9]

    def model(request: Request) -> Any:
        wanted = int(request.messages[0].text.split()[0])
        made = sum(message.role == "assistant" for message in request.messages)
        return reply("Done." if made + 1 >= wanted or request.tool_choice == "none" else call("look", at=made), request)

    def clerk(pace: Pace | int | None) -> Agent[str]:
        return Agent(script(model), name="clerk", tools=[look], turns=pace)

    async def use(runtime: weft.Runtime) -> list[tuple[str, int]]:
        for wanted in lengths:
            await runtime.run(clerk(Calibrated(75, least=6, otherwise=20)), str(wanted))
        await runtime.run(clerk(3), "10")  # cut short: it tells nothing
        first = await runtime.run(clerk(Calibrated(75, least=6, otherwise=20)), "9")
        then = await runtime.run(clerk(Calibrated(75, least=6)), "20")
        found = await spent_by(runtime.store, "clerk", 100)
        return [(first.ended, first.turns), (then.ended, then.turns), ("runs", len(found))]

    assert drive(store, use) == [("done", 9), ("limit", 9), ("runs", 6)]


def test_events_say_what_is_left(place: str) -> None:
    agent = Agent(script(Busy()), name="seen", tools=[look], turns=Fixed(3))

    @weft.workflow
    async def watch() -> list[Any]:
        found: list[Any] = []
        async for event in agent.conversation().events("Go."):
            if isinstance(event, TurnStarted):
                found.append(event.left)
            if isinstance(event, Ended):
                found.append(event.answer.ended)
        return found

    assert drive(place, lambda r: r.run(watch)) == [2, 1, 0, "limit"]


# --- the report -------------------------------------------------------------------------------------------------------


def spending(place: str) -> str:
    """A run of an agent with a sub-agent; its id."""

    @tool(effect="pure")
    async def broken() -> str:
        raise ValueError("broken")

    lines = [call("look", at=1), call("look", at=1), call("broken"), call("ask_reported_inner", prompt="?"),
             call("write", text="x"), call("look", at=1), "Done."]  # fmt: skip

    def model(request: Request) -> Any:
        return reply(lines[sum(m.role == "assistant" for m in request.messages)], request)

    inner = Agent(script(Busy(), name="reported_inner"), name="reported_inner", tools=[look], turns=2)
    outer = Agent(script(model), name="reported", tools=[look, broken, write, inner.as_tool()])

    async def use(runtime: weft.Runtime) -> str:
        run = await runtime.start(outer, "Go.")
        await run
        return run.id

    id: str = drive(place, use)
    return id


def test_a_report_tells_wasted_turns_and_what_a_solved_run_costs(store: str) -> None:
    id = spending(store)

    async def read() -> Any:
        opened = open_store(store)
        try:
            ids = list((await opened.subtree(id)).rows)
            return await report_of(opened, ids), await report_of(opened, ids, dict.fromkeys(ids, False))
        finally:
            await opened.close()

    report, unsolved = asyncio.run(read())
    by = {one.workflow: one for one in report.runs}
    outer, inner = by["reported"], by["reported_inner"]
    assert (outer.ended, outer.turns, outer.wasted) == ("done", 7, 3)  # looked again, failed, looked after the change
    assert (inner.ended, inner.turns, inner.wasted, inner.solved) == ("limit", 2, 0, False)
    assert (report.solved, report.limited, report.wasted) == (1, 0.5, 3 / 9)
    assert report.per_solved("turns") == 9 and report.per_solved("tokens") == outer.tokens + inner.tokens
    assert (report.percentile(50), report.percentile(75)) == (2, 7)
    assert unsolved.per_solved("tokens") is None


def test_the_command_prints_the_report(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from weft.cli.app import app

    id = spending(place)
    run = CliRunner().invoke
    told = run(app, ["trace", "turns", id, "--store", place])
    assert told.exit_code == 0 and "9 turns, 33% of them wasted" in told.output and "reported_inner" in told.output
    data = msgspec.json.decode(run(app, ["trace", "turns", id, "--store", place, "--json"]).output)
    assert [one["turns"] for one in data["runs"]] == [7, 2] and data["per_solved"]["turns"] == 9
    missing = run(app, ["trace", "turns", "nowhere", "--store", place])
    assert missing.exit_code != 0
