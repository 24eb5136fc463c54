"""`weft memory` as a user meets it: what is there, who wrote it, what is kept back, and what is cut."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weft
from tests.programs import drive
from tests.terminal import WEFT


@dataclass
class Note:
    text: str
    score: int = 0


notes = weft.Memory("notes")
scratch = weft.Memory("scratch", int, private=True)


@weft.step
async def secret() -> str:
    return "the secret"


@weft.workflow
async def fills() -> list[str]:
    ids = []
    for n in range(3):
        async with notes.operation(level="L2") as op:
            op.write("plan", Note("x" * n, n), links=("a/[b]", "large"))
        ids.append(op.id)
    async with notes.operation() as op:
        op.write("handle", weft.label("told nobody", "confidential", ["acme"]))
        op.write("a/[b]", await op.read("plan"))
        op.write("large", "l" * 50_000)
        op.write("gone", 1)
    async with notes.operation() as op:
        op.delete("gone")
    async with scratch.operation() as mine:
        mine.write("n", 7)
    await notes.retract(ids[2], level="L1")
    return [weft.current().id, *ids]


@weft.workflow
async def knows() -> str:
    handle = await secret.sealed()
    async with weft.Memory("known").operation() as op:
        weft.label(handle, "secret").open()
        op.write("it", "all that I write carries it")
    return op.id


class Weft:
    """The words that `weft memory …` says about a store."""

    def __init__(self, store: str) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
        self.environment = {**ours, "WEFT_STORE": store}

    def __call__(self, *words: str, code: int = 0) -> str:
        command = [WEFT, "memory", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


def test_what_is_in_memory_is_told(store: str) -> None:
    run, *ids = drive(store, lambda runtime: runtime.run(fills))
    say = Weft(store)

    spaces = [{"namespace": "notes", "clock": 6, "cells": 4}, {"namespace": f"scratch@{run}", "clock": 1, "cells": 1}]
    assert say.json("list") == spaces
    words = say("list")
    assert "notes" in words and f"scratch@{run}" in words
    cells = say.json("list", "notes")
    assert [(one["cell"], one["version"], one["by"]) for one in cells] == [
        ("notes/a/[b]", 1, run), ("notes/handle", 1, run), ("notes/large", 1, run), ("notes/plan", 4, run),
    ]  # fmt: skip
    assert cells[2]["bytes"] > 50_000 and cells[3]["operation"] == ids[1]
    assert [line.split()[0] for line in say("list", "notes").splitlines()] == [
        "cell", "notes/a/[b]", "notes/handle", "notes/large", "notes/plan",
    ]  # fmt: skip
    assert [one["cell"] for one in say.json("list", "notes", "--limit", "2")] == ["notes/a/[b]", "notes/handle"]

    plan = say.json("show", "notes/plan")
    assert plan["value"] == {"text": "x", "score": 1} and plan["links"] == ["notes/a/[b]", "notes/large"]
    assert (plan["label"], plan["deleted"], plan["clock"]) == (None, False, 6)
    assert say.json("show", "notes/plan", "--version", "3")["value"] == {"text": "xx", "score": 2}
    assert say.json("show", "notes/large")["value"] == "l" * 50_000
    words = say("show", "notes/plan")
    assert f"by {ids[1]} of {run}" in words and "-> notes/a/[b]" in words and '"score": 1' in words
    assert say("show", "notes/gone").splitlines()[-1] == "deleted"

    versions = say.json("history", "notes/plan")
    assert [(one["version"], one["clock"], one["operation"]) for one in versions] == [
        (4, 6, ids[1]), (3, 3, ids[2]), (2, 2, ids[1]), (1, 1, ids[0]),
    ]  # fmt: skip
    assert len(say("history", "notes/plan").splitlines()) == 5
    assert [one["deleted"] for one in say.json("history", "notes/gone")] == [True, False]

    done = say.json("operations", "notes")
    assert [(one["at"], one["level"], one["state"]) for one in done] == [
        (5, "L1", "live"), (4, "L1", "tainted"), (3, "L2", "retracted"), (2, "L2", "live"), (1, "L2", "live"),
    ]  # fmt: skip
    assert [line.split()[3:] for line in say("operations", "notes", "--limit", "3").splitlines()] == [
        ["state", "at"], ["live"], ["tainted", "6"], ["retracted", "6"],
    ]  # fmt: skip

    assert say("prune", "notes", "--keep", "1") == "4 old versions deleted\n"
    assert say.json("prune", "notes", "--keep", "1") == {"namespace": "notes", "deleted": 0}
    assert [one["version"] for one in say.json("history", "notes/plan")] == [4]


def test_what_carries_a_label_is_kept_back(store: str) -> None:
    drive(store, lambda runtime: runtime.run(fills))
    drive(store, lambda runtime: runtime.run(knows))
    say = Weft(store)
    for cell in ("notes/handle", "known/it"):
        for words in (say("show", cell), say("show", cell, "--json")):
            assert "told nobody" not in words and "all that I write" not in words and "labelled" in words
    assert say.json("show", "known/it")["label"] == "secret"


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    say = Weft(str(tmp_path / "journal.db"))
    assert say("list") == "nothing was written to shared memory yet\n" and say.json("list") == []
    for words in (("list", "notes"), ("operations", "notes"), ("prune", "notes", "--keep", "2")):
        assert "there is no memory 'notes' in " in say(*words, code=3)
    assert "nothing was ever written to notes/plan in " in say("show", "notes/plan", code=3)
    assert "nothing was ever written to notes/plan in " in say("history", "notes/plan", code=3)
    drive(str(tmp_path / "journal.db"), lambda runtime: runtime.run(fills))
    assert "version 9 of notes/plan is not there" in say("show", "notes/plan", "--version", "9", code=3)
    assert "keep" in say("prune", "notes", "--keep", "0", code=2)
