"""`weft trace generate`: from journals and logs to lines of cases, by the command itself."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

import weft
from tests.programs import drive
from tests.terminal import WEFT
from tests.test_generation import cases
from weft.cli.trace_generate import _shares
from weft.core.errors import BadInput
from weft.trace.generation import Case, cases_of_runs, read_cases, write_cases

pytest.importorskip("torch", reason="the extra `torch`")


@weft.step
async def read(number: int) -> int:
    weft.charge(tokens=10 + number)
    return number


@weft.step
async def breaks(number: int) -> None:
    raise ValueError("no")


@weft.workflow
async def works(number: int) -> int:
    await read(number)
    await weft.sleep(0)
    if number % 3 == 0:
        await breaks(number)
    return await read(number)


async def twelve(runtime: weft.Runtime) -> list[Case]:
    for number in range(12):
        run = await runtime.start(works, number)
        with suppress(ValueError):
            await run
    await runtime.journal.barrier()
    return await cases_of_runs(runtime.store, await runtime.store.rows(limit=100))


def test_runs_of_a_journal_are_cases(store: str) -> None:
    found = drive(store, twelve)
    failed = [case for case in found if case.attributes["outcome"] == "failed"]
    assert (len(found), len(failed)) == (12, 4)
    assert {case.attributes["workflow"] for case in found} == {works.name}
    assert min(case.start for case in found) == 0
    assert failed[0].activities == [read.name, "sleep", f"{breaks.name}:failed"]
    assert failed[0].events[0].amounts["tokens"] >= 10
    assert all(event.after >= 0 for case in found for event in case.events)


def weft_(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([WEFT, *map(str, words)], capture_output=True, text=True, timeout=100)


def test_the_command_makes_runs_and_keeps_what_it_learnt(tmp_path: Path) -> None:
    log, kept, out = tmp_path / "log.jsonl", tmp_path / "kept.pt", tmp_path / "out.jsonl"
    with log.open("wb") as file:
        write_cases(cases(40), file)
    done = weft_("trace", "generate", log, "-n", "20", "--epochs", "2", "--mix", "failed=0.4", "--model", kept)
    assert done.returncode == 0, done.stderr
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(case["attributes"]["outcome"] == "failed" for case in made) == 8
    assert "20 runs made" in done.stderr
    done = weft_("trace", "generate", log, "-n", "5", "--where", "outcome=failed", "--model", kept, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "learning" not in done.stderr
    assert {case.attributes["outcome"] for case in read_cases(out)} == {"failed"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nothing.db"], "there is no file nothing.db"),
        (["nothing.xes"], "there is no file nothing.xes"),
        (["nothing.xes", "--where", "failed"], "write it as NAME=VALUE"),
    ],
    ids=["store", "log", "where"],
)
def test_bad_input_is_told_in_a_sentence(words: list[str], why: str) -> None:
    done = weft_("trace", "generate", *words)
    assert (done.returncode, why in done.stderr) == (2, True), done.stderr


def test_a_share_is_a_number() -> None:
    with pytest.raises(BadInput, match="a share from 0 to 1"):
        _shares(["failed=much"])
