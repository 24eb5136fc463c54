"""What runs are to an automaton: symbols of calls and of journals, `weft trace learn`, `surprise`, `automaton`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from xml.etree import ElementTree

import pytest

import weft
from tests.programs import drive
from tests.terminal import Terminal
from weft.store import open_store
from weft.trace.automata import Call, symbols_of_calls, symbols_of_run

PROGRAM = """
import weft

@weft.step
async def read(path: str) -> str:
    return "text of " + path

@weft.step
async def edit(path: str, text: str) -> str:
    return "edited"

@weft.workflow
async def main(odd: bool = False) -> None:
    await read("a.txt")
    if odd:
        await edit("b.txt", "new")
    else:
        await edit("a.txt", "new")
"""

# --- symbols ----------------------------------------------------------------------------------------------------------


def test_a_call_is_told_by_what_its_arguments_were_used_for_before() -> None:
    calls = [
        Call("read", {"path": "a"}, "text"),
        Call("edit", {"path": "a", "change": {"to": ["b"]}}, "done"),
        Call("edit", {"path": "c"}, "done"),
        Call("grep", {"for": "b"}),
        Call("read", {"path": "a"}, "text"),
        Call("read", {"path": "a"}, "another text", failed=True),
    ]
    assert symbols_of_calls(calls) == [
        "read new", "edit after read", "edit new", "grep after edit", "read again x1", "read after read failed",
    ]  # fmt: skip


def test_repeats_are_counted_up_to_a_few_and_calls_that_say_nothing_are_none() -> None:
    assert symbols_of_calls([Call("bash", None, "denied")] * 6)[2:] == ["bash again x2", *["bash again x3"] * 3]
    assert symbols_of_calls([Call("bash"), Call("bash"), Call("bash", {"n": 3})]) == ["bash"] * 3


def test_long_texts_are_content_and_relate_nothing() -> None:
    text = "x" * 1000
    assert symbols_of_calls([Call("read", {"path": text}), Call("edit", {"path": text})]) == ["read", "edit"]


def test_a_template_of_the_result_is_part_of_the_symbol() -> None:
    calls = [Call("bash", None, "3 passed"), Call("bash", None, "4 passed")]
    assert symbols_of_calls(calls, lambda call: "<n> passed") == ["bash <n> passed"] * 2


@weft.step
async def add(x: int, name: str = "") -> int:
    if x < 0:
        raise ValueError("negative")
    return x + 1


@weft.workflow
async def counts() -> None:
    weft.now()
    await add(1, "n")
    await add(1, "n")
    await add(2, "n")
    with suppress(ValueError):
        await add(-1)
    await weft.sleep(0)


def test_the_symbols_of_a_run(store: str) -> None:
    async def use(runtime: weft.Runtime) -> list[str]:
        handle = await runtime.start(counts)
        await handle.result()
        opened = open_store(store)
        try:
            return await symbols_of_run(opened, handle.id)
        finally:
            await opened.close()

    name = f"step:{add.name}"
    assert drive(store, use) == [f"{name} new", f"{name} again x1", f"{name} after {name}", f"{name} failed", "sleep"]


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("usual"), PROGRAM)
    usual = [["plan", "read", *["edit", "test"] * (number % 4), "done"] for number in range(600)]
    (terminal.folder / "usual.jsonl").write_text("".join(json.dumps(run) + "\n" for run in usual))
    terminal("trace", "learn", "usual.jsonl", "--model", "m")
    yield terminal
    terminal.close()


def test_what_was_expected_where_a_run_of_a_file_left_the_usual(here: Terminal) -> None:
    odd = [["plan", "read", "edit", "test", "done"], ["plan", "teleport", "done"]]
    (here.folder / "odd.jsonl").write_text("\n".join(map(json.dumps, odd)))
    usual, strange = here.json("trace", "surprise", "odd.jsonl", "--model", "m", "--rare", "0.05")
    assert usual["departures"] == [] and usual["run"] == "odd.jsonl:1" and len(usual["bits"]) == 6
    assert strange["score"] > usual["score"] and strange["rare"] < 0.05
    [left, *_] = strange["departures"]
    assert left["at"] == 1 and left["symbol"] == "teleport" and left["expected"][0][0] == "read"
    said = here("trace", "surprise", "odd.jsonl", "--model", "m", "--rare", "0.05")
    assert "#2 teleport" in said and "expected read" in said


def test_what_was_learnt_for_other_tools(here: Terminal) -> None:
    assert here("trace", "automaton", "--model", "m", "--as", "dot").startswith("digraph")
    assert ElementTree.fromstring(here("trace", "automaton", "--model", "m", "--as", "pnml")).tag.endswith("pnml")
    assert "begins    plan 100%" in here("trace", "automaton", "--model", "m")


def test_learning_goes_on_where_it_was_unless_told_otherwise(here: Terminal) -> None:
    assert here.json("trace", "learn", "usual.jsonl", "--model", "again")["all"] == 600
    assert here.json("trace", "learn", "usual.jsonl", "--model", "again")["all"] == 1200
    found = here.json("trace", "learn", "usual.jsonl", "--model", "again", "--new")
    assert found["runs"] == found["all"] == 600 and found["symbols"] == 5


def test_runs_of_weft_are_learnt_by_the_name_of_their_workflow(here: Terminal) -> None:
    run = here.json("run", "shop.py:main", "-A")["run"]
    odd = here.json("run", "shop.py:main", "-A", "-i", "odd=true")["run"]
    assert here.json("trace", "learn", run)["runs"] == 1
    assert "learnt from 2 runs, 3 in all" in here("trace", "learn", "shop.main")
    [found] = here.json("trace", "surprise", odd, "--rare", "1")
    assert found["run"] == odd and len(found["bits"]) == 3


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (("surprise", "usual.jsonl", "--model", "nowhere"), "`weft trace learn` makes it", 2),
        (("surprise", "usual.jsonl", "--model", "shop.py"), "this is no learner", 2),
        (("learn", "nowhere.jsonl"), "can't read nowhere.jsonl", 2),
        (("learn", "bad.jsonl"), "bad.jsonl, line 2: not a list of symbols", 2),
        (("learn", "zzz"), "no run 'zzz'", 3),
    ],
    ids=["no model", "another file", "no file", "no runs", "no such run"],
)
def test_bad_words_are_refused(here: Terminal, words: tuple[str, ...], says: str, code: int) -> None:
    (here.folder / "bad.jsonl").write_text('["a"]\n{"a": 1}\n')
    assert says in here("trace", *words, code=code)
