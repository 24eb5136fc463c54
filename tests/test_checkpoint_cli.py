"""`weft checkpoint` as a user meets it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.programs import until_dead
from tests.test_cli import Shell

PROGRAM = """
import weft

box = weft.Mailbox("answers", int)

@weft.step(effect="at_most_once")
async def mail(to: str) -> str:
    with open("log", "a") as file:
        file.write(to + "\\n")
    return to

@weft.workflow
async def child() -> int:
    return 1

@weft.workflow
async def waits() -> list[object]:
    await child()
    await weft.checkpoint("early", note="nothing was sent")
    await mail("ann")
    return [await box.receive(), await mail("bob")]
"""


@pytest.fixture(params=["sqlite", "postgres"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    found = Shell(tmp_path, request.getfixturevalue("postgres_url") if request.param == "postgres" else None)
    (tmp_path / "shop.py").write_text(PROGRAM)
    return found


def test_checkpoints_are_made_shown_forked_and_restored(shell: Shell) -> None:
    process, id = shell.begin("waits")
    made = shell("checkpoint", "create", id, "--name", "late").strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    until_dead(shell.store)
    [late, early] = shell.json("checkpoint", "list", id)
    assert (late["checkpoint"], late["name"], late["effect"], late["restored_as"]) == (made, "late", None, None)
    assert (early["name"], early["note"], early["run"]) == ("early", "nothing was sent", id)
    shown = shell.json("checkpoint", "show", "early")
    assert sorted(place["state"] for place in shown["processes"]) == ["done", "running"]
    [sent] = [one for one in shown["since"] if one["class"] != "unknown"]
    assert (sent["class"], sent["name"], sent["args"], sent["ok"]) == ("irreversible", "shop.mail", ["ann"], True)
    text = shell("checkpoint", "show", early["checkpoint"][-6:])
    assert 'shop.mail ["ann"]' in text and "irreversible: 1" in text and "repeatable: nothing" in text
    restored = shell.json("checkpoint", "restore", "early", "--leave")["run"]
    assert [run["state"] for run in shell.json("ps") if run["id"] == id] == ["killed"]
    assert f"restored as {restored}" in shell("checkpoint", "list")
    shell("send", id, "answers", "5")
    assert shell.json("resume", restored)["result"] == [5, "bob"]
    fork = shell.json("checkpoint", "fork", "late", "--leave")["run"]
    shell("send", fork, "answers", "6")
    assert shell.json("resume", fork)["result"] == [6, "bob"]
    assert shell.log() == ["ann", "ann", "bob", "bob"]
    assert "0 not what was written" in shell("audit", "verify")
    assert "no checkpoint 'nothing'; `weft checkpoint list`" in shell("checkpoint", "show", "nothing", code=3)
    assert "no run 'nobody'" in shell("checkpoint", "create", "nobody", code=3)
