"""Long results of an agent's tools, shown with their repeats counted: one folder for the conversation; nothing is lost,
and what was shown is the same after a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh
from weft.agent import Agent, Answer, Context
from weft.agent.context import Cut
from weft.core.errors import BadInput
from weft.model import Message, Request, script
from weft.tool import ToolCall, ToolResult, tool
from weft.tool.builtin import read_output
from weft.tool.folding import folded

__all__ = ["fresh"]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path: Any) -> str:
    return str(tmp_path / "journal.db")


def log(part: str, status: int = 0) -> str:
    lines = [f"Downloading {part}_{one}.tar.gz ({one * 7} kB)" for one in range(40)]
    return "\n".join([*lines, f"exit status {status}"])


@tool(effect="pure")
async def install(part: str, status: int = 0) -> str:
    """Install a part."""
    return log(part, status)


@tool(effect="pure")
async def names(count: int) -> str:
    """Give names of files."""
    return "\n".join(f"./src/folder{one}/file{one}.py" for one in range(count))


def call(name: str, number: str, /, **arguments: Any) -> ToolCall:
    return ToolCall(id=number, name=name, arguments=arguments)


class Scripted:
    """Says its lines one after the other, and keeps what it was shown."""

    def __init__(self, lines: list[Any]) -> None:
        self.lines = lines
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Any:
        self.seen.append(request)
        return self.lines[len(self.seen) - 1]


def agent(lines: list[Any], name: str, **options: Any) -> tuple[Agent[Any], Scripted]:
    said = Scripted(lines)
    options = {"tools": [install, names], "context": Context(folded=("install", "names")), **options}
    return Agent(script(said, name=name), name=name, **options), said


def results(messages: list[Message]) -> list[str]:
    return [one.text for message in messages for one in message.results]


def test_what_one_result_has_shown_a_later_one_only_counts(store: str) -> None:
    both = [call("install", "2", part="right"), call("install", "3", part="up", status=3)]
    lines = [call("install", "1", part="left"), both, call("recall", "4", id="f2"), "Done."]
    helper, said = agent(lines, "folds")
    answer: Answer[str] = drive(store, lambda r: r.run(helper, "Install them."))
    first, second, third, again = results(said.seen[-1].messages)
    assert first.startswith("Downloading * (* kB)  ×40\nexit status 0\n[folded: * is a value that was left out")
    assert second == "exit status 0\n… 40 again\n[folded; recall('f2') shows all]"
    assert third == "exit status 3\n… 40 again\n[folded; recall('f3') shows all]"
    assert again == log("right"), "the model reads the whole again"
    assert results(answer.messages)[:3] == [log("left"), log("right"), log("up", 3)], "the conversation itself is whole"
    assert "recall" in [spec.name for spec in said.seen[0].tools], "tools do not change on the way"
    for before, after in zip(said.seen, said.seen[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages, "prompts only grow at their end"


def test_short_results_lists_of_names_and_other_tools_stay_as_they_are(place: str) -> None:
    lines = [[call("names", "1", count=40), call("names", "2", count=2), call("show", "3", part="left")], "Done."]

    @tool(effect="pure")
    async def show(part: str) -> str:
        """Show a log."""
        return log(part)

    helper, said = agent(lines, "unfolded", tools=[install, names, show])
    drive(place, lambda r: r.run(helper, "Look."))
    assert results(said.seen[-1].messages) == [
        drive(place, lambda r: names(40)),
        drive(place, lambda r: names(2)),
        log("left"),
    ]


def test_after_turns_were_taken_out_nothing_counts_as_shown(place: str) -> None:
    lines = [call("begin_subtask", "1", goal="Install left"), call("install", "2", part="left"),
             call("conclude", "3", conclusion="It is there."), call("install", "4", part="right"), "Done."]  # fmt: skip
    helper, said = agent(lines, "forgets", context=Context(folded=("install",), subtasks=True))
    drive(place, lambda r: r.run(helper, "Install them."))
    _, last = results(said.seen[-1].messages)
    assert (
        last.startswith("Downloading * (* kB)  ×40\nexit status 0\n[folded: * is") and "again" not in last.split("[")[0]
    )


def test_late_results_are_folded_too(place: str) -> None:
    lines = [
        [call("install", "1", part="left"), call("install", "2", part="right")],
        call("wait", "3", until="all"),
        "Done.",
    ]
    helper, said = agent(lines, "late", asynchronous=True)
    answer = drive(place, lambda r: r.run(helper, "Install them."))
    shown = "\n".join(part.content for m in said.seen[-1].messages for one in [*m.results, m] for part in texts(one))
    assert shown.count("Downloading") == 1 and "×40" in shown and "… 40 again" in shown
    whole = "\n".join(part.content for m in answer.messages for one in [*m.results, m] for part in texts(one))
    assert whole.count("Downloading") == 80


def texts(one: Message | ToolResult) -> list[Any]:
    return [part for part in (one.parts if isinstance(one, Message) else one.response) if hasattr(part, "content")]


def test_a_conversation_that_is_shortened_shows_again(place: str) -> None:
    lines = [call("install", "1", part="left"), "One.", call("install", "2", part="right"), "Two."]
    helper, said = agent(lines, "undone")

    @weft.workflow
    async def talk() -> None:
        talk = helper.conversation()
        await talk.say("Install left.")
        talk.undo(0)
        await talk.say("Install right.")

    drive(place, lambda r: r.run(talk))
    assert results(said.seen[-1].messages)[0].startswith("Downloading * (* kB)  ×40\nexit status 0")


def test_bad_settings_say_what_to_give() -> None:
    with pytest.raises(BadInput, match=r"folded='install'.*names of tools"):
        Context(folded="install")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"no tool 'instal'.*did you mean 'install'"):
        agent([], "misnamed", context=Context(folded=("instal",), compact=Cut()))


@weft.workflow
async def hooked() -> tuple[str, str, str]:
    one = await install.options(after=[folded]).call(call("install", "1", part="left"))
    ref = one.text.partition("output.read('")[2][:32]
    short = await install.options(after=[folded]).call(call("install", "2", part=1))  # type: ignore[arg-type]
    return one.text, await read_output(ref), short.text


def test_what_the_hook_folds_is_read_by_its_ref(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_OUTPUTS", str(tmp_path / "outputs"))
    shown, whole, failed = drive(place, lambda r: r.run(hooked))
    assert shown.startswith("Downloading * (* kB)  ×40\nexit status 0\n[folded: ")
    assert all(line in whole for line in log("left").splitlines())
    assert "folded" not in failed


def launch(store: Path, prompts: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.crash.folding", str(store), str(prompts), *more],
        cwd=ROOT,
        env={**os.environ, "WEFT_POLICY": "all", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def shown(prompts: Path) -> list[tuple[int, list[str]]]:
    return [(turn, texts) for turn, texts in map(json.loads, prompts.read_text().splitlines())]


def test_a_killed_process_goes_on_with_the_same_prompts(tmp_path: Path) -> None:
    alone = launch(tmp_path / "alone.db", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    expected = dict(shown(tmp_path / "alone"))
    assert "again" in expected[5][-1] and "folded" in expected[5][0]
    store, prompts = tmp_path / "killed.db", tmp_path / "killed"
    for turn in ("2", "4"):
        assert launch(store, prompts, turn).returncode == -9
    assert launch(store, prompts).stdout == alone.stdout
    assert all(texts == expected[turn] for turn, texts in shown(prompts))
    assert [turn for turn, _ in shown(prompts)][-1] == 5 and len(shown(prompts)) >= 7


def test_a_later_version_that_folds_otherwise_leaves_what_was_shown(tmp_path: Path) -> None:
    store, prompts = tmp_path / "journal.db", tmp_path / "prompts"
    assert launch(store, prompts, "3").returncode == -9
    before = dict(shown(prompts))
    later = launch(store, prompts, "0", "otherwise")
    assert later.returncode == 0, later.stderr
    again, *_, last = shown(prompts)[len(before) :]
    kept = before[again[0] - 1]  # the last prompt whose reply is in the journal
    assert kept == again[1][: len(kept)] == last[1][: len(kept)] and last[1][-1].startswith("otherwise\n")
