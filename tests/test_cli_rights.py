"""Rights, questions and budgets as a user meets them at the command line."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs import until_dead
from tests.terminal import WEFT, Terminal

PROGRAM = """
import asyncio, socket, subprocess, sys
from pathlib import Path
import weft

@weft.step
def read(path: str) -> str:
    return Path(path).read_text()

@weft.step
def write(path: str, text: str = "x") -> None:
    Path(path).write_text(text)

@weft.step(needs="write:{path}")
def write_declared(path: str) -> None:
    Path(path).write_text("declared")

@weft.step
def remove(path: str) -> None:
    Path(path).unlink()

@weft.step
def listing(path: str) -> list[str]:
    return sorted(p.name for p in Path(path).iterdir())

@weft.step
def shell(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

@weft.step
def connect(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=5) as connection:
        return connection.recv(100).decode()

@weft.step(needs="shell:git push {branch}")
def push(branch: str) -> str:
    return f"pushed {branch}"

@weft.workflow
async def writes(*paths: str) -> str:
    refused = None
    for path in paths:
        try:
            await write(path)
        except weft.errors.Denied as error:
            refused = error
    if refused is not None:
        raise refused
    return "written"

@weft.workflow
async def copies(source: str, target: str) -> None:
    await write_text(target, await read(source))

@weft.step(needs="write:{path}")
def write_text(path: str, text: str) -> None:
    Path(path).write_text(text)

@weft.workflow
async def helper(path: str) -> str:
    await weft.publish("helped", path)
    return await read(path)

@weft.workflow
async def everything(port: int) -> list[str]:
    await weft.sleep(0.01)
    found = [str(weft.random() < 1), str(weft.now() is not None)]
    found.append(await helper("docs/a.md"))
    await write_declared("out/b.txt")
    await write("out/c.txt")
    await remove("out/c.txt")
    found += await listing("docs")
    found.append(await shell(sys.executable, "-c", "print('ran')"))
    found.append(await connect("127.0.0.1", port))
    try:
        await read("/etc/hostname")
    except weft.errors.Denied:
        found.append("refused")
    return found

@weft.workflow
async def ships(branch: str = "main") -> str:
    colour = await weft.ask("Which colour?", weft_colour)
    return colour + " " + await push(branch)

from typing import Literal
weft_colour = Literal["red", "green"]

@weft.workflow
async def polls(count: int = 1000) -> int:
    for i in range(count):
        await read("docs/a.md")
        await weft.publish("polled", i)
        await asyncio.sleep(0.05)
    return count
"""


def folder(path: Path) -> Path:
    (path / "docs").mkdir()
    (path / "out").mkdir()
    (path / "docs" / "a.md").write_text("a")
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def weft_(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    place = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    terminal = Terminal(folder(tmp_path), PROGRAM, place)
    yield terminal
    terminal.close()


@pytest.fixture
def here(tmp_path: Path) -> Terminal:
    return Terminal(folder(tmp_path), PROGRAM)


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that says hello."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                server.accept()[0].sendall(b"hello")
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def only_run(terminal: Terminal) -> str:
    id: str = terminal.json("ps")[0]["id"]
    return id


# --- words ----------------------------------------------------------------------------------------------------------


def test_words_say_what_a_run_may_do(weft_: Terminal) -> None:
    run = ("run", "shop.py:writes", "-i", '["out/a.txt"]')
    assert weft_(*run, "--allow", "write:./out").strip() == "written"
    assert weft_(*run, "-A").strip() == weft_(*run, "--policy", "all").strip() == "written"
    assert "denied" in weft_(*run, "--allow", "write:./out", "--deny", "write:./out/a.txt", code=1)
    assert "step.run" in weft_(*run, "--policy", "none", "--allow", "write:./out", code=1)
    weft_.environment |= {"WEFT_POLICY": "none", "WEFT_ALLOW": "step:**"}
    assert "file.write" in weft_(*run, code=1)
    assert weft_(*run, "--allow", "write:./out").strip() == "written"
    (weft_.folder / "weft.toml").write_text('[policy]\nallow = ["write:./out"]\nbudget = { effects = 1 }\n')
    assert weft_(*run).strip() == "written"
    assert "effects" in weft_("run", "shop.py:writes", "-i", '["out/a.txt", "out/b.txt"]', code=1)
    assert weft_("run", "shop.py:writes", "-i", '["out/a", "out/b"]', "--budget", "effects=2").strip() == "written"


def test_submitted_runs_have_the_rights_of_who_submits_them(weft_: Terminal) -> None:
    words = ("shop.py:writes", "-i", '["out/a.txt"]')
    allowed = weft_("submit", *words, "--allow", "write:./out").strip()
    denied = weft_("submit", *words).strip()
    worker = subprocess.Popen([WEFT, "worker", "shop.py"], cwd=weft_.folder, env=weft_.environment, stderr=-1)
    try:
        states = {}
        while not states or not set(states.values()) <= {"done", "failed"}:
            states = {row["id"]: row["state"] for row in weft_.json("ps")}
        assert states == {allowed: "done", denied: "failed"}
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--allow", "raed:./x"], "--allow: 'raed:./x': there is no action 'raed'; did you mean 'read'?"),
        (["--allow", "read:./x", "--ask", "deny read:./y"], "--ask: 'deny read:./y' says deny, but stands among"),
        (["--deny", "read:./x uses=1"], "--deny: "),
        (["--policy", "nothing"], "--policy: policy base 'nothing': there are none, program, workspace, all"),
        (["-A", "--policy", "none"], "-A is --policy all"),
        (["--budget", "tokens"], "--budget: 'tokens' is no limit; write KIND=NUMBER"),
        (["--budget", "tokens=1,tokns=2"], "--budget: there is no budget of 'tokns'; did you mean 'tokens'?"),
        (["--budget", "tokens=-1"], "--budget: "),
    ],
)
def test_a_wrong_word_is_named(here: Terminal, words: list[str], says: str) -> None:
    assert says in here("run", "shop.py:writes", *words, code=2)


def test_a_wrong_table_and_variable_are_named(here: Terminal) -> None:
    (here.folder / "weft.toml").write_text("[policy]\nbudget = { tokns = 1 }\n")
    assert "weft.toml: [policy]: there is no budget of 'tokns'" in here("run", "shop.py:writes", code=2)
    (here.folder / "weft.toml").unlink()
    here.environment["WEFT_BUDGET"] = "money=a lot"
    assert "WEFT_BUDGET: 'money=a lot' is no limit" in here("run", "shop.py:writes", code=2)


def test_a_budget_bounds_a_run_whatever_its_workflow_says(weft_: Terminal) -> None:
    words = ("run", "shop.py:writes", "-i", '["out/a", "out/b", "out/c"]', "-A")
    said = weft_(*words, "--budget", "effects=2", code=1)
    assert "allows 2 effects, of which 0 are left" in said
    run = only_run(weft_)
    assert weft_("fork", run, "--at", "3").strip() == "written"  # it has its origin's budget, for itself
    assert "allows 2 effects" in weft_("fork", run, "--at", "1", "--budget", "effects=9", code=1)
    assert "allows 1 effects" in weft_("fork", run, "--at", "2", "--budget", "effects=1", code=1)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_failed_run_says_all_that_it_lacked(weft_: Terminal) -> None:
    words = ("run", "shop.py:writes", "-i", '["out/a b.txt", "/nowhere/x", "docs/a.md"]')
    said = weft_(*words, "--deny", "write:./docs", code=1)
    folder = weft_.folder
    assert f"  file.write {folder}/out/a b.txt: add: --allow 'write:\"./out/a b.txt\"'" in said
    assert "  file.write /nowhere/x: add: --allow write:/nowhere/x" in said
    assert f"  file.write {folder}/docs/a.md: #" in said and "deny write:./docs" in said
    table = said[said.index("  [policy]") :].split("\n", 2)[1].strip()
    assert tomllib.loads(table) == {"allow": ["write:/nowhere/x", 'write:"./out/a b.txt"']}


def test_a_refused_run_goes_on_from_there_with_the_word_that_it_says(weft_: Terminal) -> None:
    said = weft_("run", "shop.py:writes", "-i", '["out/a.txt"]', code=1)
    line = next(line for line in said.splitlines() if "weft fork" in line and "--allow" in line)
    words = shlex.split(line[line.index("weft fork") :])[1:]
    assert weft_(*words).strip() == "written"
    assert (weft_.folder / "out" / "a.txt").exists()


def test_what_a_child_was_refused_is_said_too(weft_: Terminal) -> None:
    said = weft_("run", "shop.py:everything", "-i", "1", "--deny", "read:./docs", code=1)
    assert f"file.read {weft_.folder}/docs/a.md: #" in said


# --- policy ---------------------------------------------------------------------------------------------------------


def test_explain_says_what_a_run_holds_and_what_was_decided(weft_: Terminal, port: int) -> None:
    words = ["--allow", "write,delete:./out", "--allow", "shell:**", "--allow", "net:10.0.0.1 expires=1h"]
    weft_("run", "shop.py:everything", "-i", str(port), *words, code=1)
    run = only_run(weft_)
    text = weft_("policy", "explain", run)
    assert re.search(r"#\d+ +write,delete:\./out +by policy, decided 3×", text), text
    assert text.index("was refused") < text.index("\ndid\n")
    assert "helper" not in text.split("\n")[0] and "docs/a.md" not in text
    tree = weft_("policy", "explain", run, "--tree")
    assert "  run " in tree and re.search(r"docs/a.md  by #\d", tree)
    [parent, child] = weft_.json("policy", "explain", run, "--tree")
    assert child["parent"] == parent["run"] and [f"{run}#0"] in [one["lineage"] for one in child["rights"]]
    refused = [one for one in parent["requests"] if one["verdict"] == "deny"]
    assert [one["action"] for one in refused] == ["net.connect"]
    deleted = next(one for one in parent["requests"] if one["action"] == "file.delete")
    assert deleted["times"] == 1 and deleted["by"].startswith(f"{run}#")


def test_explain_counts_uses_and_says_what_must_be_declared(weft_: Terminal) -> None:
    weft_("run", "shop.py:writes", "-i", '["out/a"]', "--allow", "write:./out/a uses=9", code=1)
    text = weft_("policy", "explain", only_run(weft_))
    assert re.search(r"write:\./out/a uses=9 +by policy, decided 1×, 9 of 9 uses left", text), text
    assert 'counts uses, so it must be known before the step begins: @weft.step(needs="file.write:...")' in text


def suggested(terminal: Terminal, run: str, *words: str) -> list[str]:
    """The words of a suggestion, as a shell would read them."""
    return shlex.split(terminal("policy", "suggest", run, *words).replace("\\\n", " "), comments=True)


def test_a_run_succeeds_under_what_is_suggested_and_fails_under_less(here: Terminal, port: int) -> None:
    words = ("run", "shop.py:everything", "-i", str(port))
    wide = ("--allow", "write,delete:./", "--allow", "shell:**", "--allow", "net:**")
    found = here.json(*words, *wide)["result"]
    assert found[-2:] == ["hello", "refused"]
    suggestion = suggested(here, only_run(here))
    assert suggestion[:2] == ["--policy", "none"]
    specs = suggestion[3::2]
    assert "delete:./out/c.txt" in " ".join(specs) or "write,delete:./out/c.txt" in specs
    assert not any("hostname" in spec for spec in specs)
    assert here.json(*words, *suggestion)["result"] == found
    for left_out in range(len(specs)):
        fewer = [word for n, spec in enumerate(specs) if n != left_out for word in ("--allow", spec)]
        here(*words, "--policy", "none", *fewer, code=1)


def test_a_suggestion_can_stand_on_a_base_and_in_a_file(weft_: Terminal, port: int) -> None:
    words = ("run", "shop.py:everything", "-i", str(port))
    weft_(*words, "--allow", "all")
    run = only_run(weft_)
    text = weft_("policy", "suggest", run, "--toml", "--base", "workspace")
    table = tomllib.loads(text)["policy"]
    assert table["base"] == "workspace"
    actions = {spec.split(":")[0] for spec in table["allow"]}
    assert actions == {"read", "write", "write,delete", "shell", "net"}  # read: /etc/hostname
    (weft_.folder / "weft.toml").write_text(text)
    assert weft_.json(*words)["state"] == "done"
    plain = weft_.json("policy", "suggest", run, "--base", "workspace")
    assert plain["allow"] == table["allow"] and plain["watched"]


def test_what_was_not_looked_at_is_not_suggested_in_silence(weft_: Terminal) -> None:
    weft_("run", "shop.py:writes", "-i", '["out/a.txt"]', "-A")
    done = subprocess.run(
        [WEFT, "policy", "suggest", only_run(weft_)], cwd=weft_.folder, env=weft_.environment, capture_output=True
    )
    assert b"not looked at" in done.stderr and b"--allow all" in done.stderr
    assert b"step:shop.write" in done.stdout
    assert "not looked at" in weft_("policy", "explain", only_run(weft_))


def test_what_a_label_keeps_back_is_no_lack_of_rights(weft_: Terminal) -> None:
    labels = 'label = ["secret read:./docs"]\nclear = ["secret write:./out/kept.md"]\n'
    (weft_.folder / "weft.toml").write_text(f'[policy]\nallow = ["write:./out"]\n{labels}')
    words = ("run", "shop.py:copies", "-i")
    said = weft_(*words, '["docs/a.md", "out/b.md"]', code=1)
    assert "clear = ['secret write:./out/b.md']" in said and "--allow" not in said and "runtime.release(" in said
    assert weft_(*words, '["docs/a.md", "/nowhere"]', code=1).count("--allow write:/nowhere") == 2  # a word, a fork
    assert weft_.json(*words, '["docs/a.md", "out/kept.md"]')["state"] == "done"
    suggestion = weft_("policy", "suggest", only_run(weft_), "--toml")
    table = tomllib.loads(suggestion)["policy"]
    assert table["label"] == ["secret file:./docs"]  # or it would not be the narrowest
    (weft_.folder / "weft.toml").write_text(suggestion)
    assert weft_.json(*words, '["docs/a.md", "out/kept.md"]')["state"] == "done"


def test_check_says_what_would_be_decided(here: Terminal) -> None:
    says = here("policy", "check", "write:./out", "--on", "write:out/a.txt")
    assert says == f"allow  file.write {here.folder}/out/a.txt: write:./out (by policy)\n"
    found = here.json("policy", "check", "write:./out", "ask write:./out/b", "--on", "write:./out/b", code=1)
    assert (found[0]["verdict"], found[0]["by"]) == ("ask", "ask write:./out/b")
    assert "--allow 'shell:git push'" in here("policy", "check", "--on", "shell:git push", code=1)
    assert "write an action and a resource" in here("policy", "check", "--on", "write", code=2)


# --- revoke ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file.read", "event.publish"])  # one that is decided each time, one that is free
def test_a_revocation_reaches_a_run_that_others_execute(weft_: Terminal, what: str) -> None:
    run = weft_("submit", "shop.py:polls").strip()
    worker = subprocess.Popen([WEFT, "worker", "shop.py"], cwd=weft_.folder, env=weft_.environment, stderr=-1)
    try:
        while len(weft_.json("show", run)["journal"]) < 5:
            pass
        rights = weft_.json("policy", "explain", run)[0]["rights"]
        number = next(one["number"] for one in rights if ("read:" if what == "file.read" else "publish") in one["spec"])
        assert f"revoked {run}#{number}" in weft_("revoke", f"{run[3:]}#{number}")
        while weft_.json("show", run)["state"] != "failed":
            pass
        explained = weft_.json("policy", "explain", run)[0]
        assert explained["rights"][number]["ended"] == "revoked"
        assert any(one["verdict"] == "deny" for one in explained["requests"])
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_what_cannot_be_revoked_is_said(here: Terminal) -> None:
    here("run", "shop.py:writes", "-i", "[]", "--deny", "read:./out")
    run = only_run(here)
    assert "which capability?" in here("revoke", run, code=2)
    assert "holds no capability 99" in here("revoke", run, "99", code=2)
    last = here.json("policy", "explain", run)[0]["rights"][-1]["number"]
    assert "says deny" in here("revoke", f"{run}#{last}", code=2)
    assert here.json("revoke", run, "0") == {"run": run, "number": 0, "spec": here_spec(here, run), "revoked": True}


def here_spec(terminal: Terminal, run: str) -> Any:
    return terminal.json("policy", "explain", run)[0]["rights"][0]["spec"]


# --- inbox ----------------------------------------------------------------------------------------------------------


def test_questions_are_answered_from_another_terminal(weft_: Terminal) -> None:
    child, run = weft_.begin("run", "shop.py:ships", "--ask", "shell:git push **")
    asked = weft_.asked("Which colour?")
    assert (asked["run"], asked["kind"], asked["schema"]) == (run, "question", {"enum": ["green", "red"]})
    text = weft_("inbox")
    assert asked["short"] in text and 'takes "green" or "red"' in text and "shop.ships" in text
    assert "nobody asks anything of lead" in weft_("inbox", "--queue", "lead")
    assert 'is "blue", none of "green", "red"' in weft_("answer", asked["short"], "blue", code=2)
    assert "no open question" in weft_("answer", "zzz", "red", code=3)
    assert weft_.json("answer", asked["short"], "red")["answer"] == "red"
    asked = weft_.asked("push")
    assert asked["requests"] == [{"action": "shell.run", "resource": "git push main"}]
    assert weft_("show", run).count("asks ") == 1
    assert "say once, always, never" in weft_("answer", asked["id"], "maybe", code=2)
    assert "goes on" in weft_("answer", asked["id"], "always", "--who", "eve")
    out, _ = child.communicate(timeout=60)
    assert out.strip() == "red pushed main" and child.returncode == 0
    assert f"weft answer {asked['id']} …" in weft_.said() and "? Which colour?" in weft_.said()
    journal = [record["record"] for record in weft_.json("show", run)["journal"]]
    assert {"approved", "granted", "decision"} <= set(journal)
    assert "human:eve" in weft_("policy", "explain", run) and "eve about effect 2: always" in weft_("show", run)
    assert weft_("export", run).count("\n") == len(journal) + 1
    assert tomllib.loads(weft_("policy", "suggest", run, "--toml"))["policy"]["ask"] == ["shell:git push main"]


def test_an_answer_to_a_run_that_nobody_executes_says_how_to_go_on(weft_: Terminal) -> None:
    child, run = weft_.begin("run", "shop.py:ships", "-A")
    asked = weft_.asked("Which colour?")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    until_dead(weft_.store)
    assert f"nobody executes run {run} now, continue it with: weft resume {run}" in weft_("answer", asked["id"], "red")
    assert weft_("resume", run).strip() == "red pushed main"


def test_at_a_terminal_the_questions_are_asked_there(here: Terminal) -> None:
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [WEFT, "run", "shop.py:ships", "--ask", "shell:git push **"], cwd=here.folder, stdin=slave, stderr=slave,
        stdout=subprocess.PIPE, text=True, env=here.environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(master, 4096).decode(errors="replace")
        seen = seen[seen.index(text) + len(text) :]

    until("? Which colour?")
    until("> ")
    os.write(master, b"blue\n")
    until('is "blue", none of')
    until("> ")
    os.write(master, b"green\n")
    until("git push main")
    until("> ")
    here("answer", here.asked("push")["id"], "once")  # somebody was faster
    out, _ = child.communicate(timeout=60)
    os.close(master)
    assert out.strip() == "green pushed main"
    assert here.json("inbox") == []


def test_help_is_light_and_names_the_words(here: Terminal) -> None:
    assert "--allow" in here("run", "--help") and "explain" in here("policy", "--help")
    code = "import sys; from weft.cli.app import app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"rich.markdown", "typer.rich_utils", "asyncio", "sqlite3", "weft.runtime.runtime"}
    assert not heavy & set(done.stdout.split())


def test_json_is_all_that_is_printed(here: Terminal) -> None:
    here("run", "shop.py:writes", "-i", "[]")
    for words in (["inbox"], ["policy", "explain", only_run(here), "--tree"], ["policy", "suggest", only_run(here)]):
        json.loads(here(*words, "--json"))
