"""Commands by the primitive: what is decided is what runs, and all of it ends."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from weft.core.errors import BadInput, Denied, StepTimeout
from weft.core.record import Decision
from weft.tool import output, shell

PY = sys.executable


pytestmark = pytest.mark.usefixtures("nothing_left", "workspace")


@weft.workflow(name="shell.does")
async def does(argv: Any, options: dict[str, Any]) -> Any:
    try:
        return await shell.run(argv, **options)
    except weft.WeftError as error:
        return error


def run(workspace: Path, argv: Any, options: dict[str, Any] | None = None, /, **policy: Any) -> Any:
    place = str(workspace.parent / "journal.db")
    return drive(place, lambda runtime: runtime.run(does, argv, options or {}), policy=weft.Policy(**policy))


ANY = {"allow": ("shell:**",)}


def gone(pid: int, within: float = 5) -> bool:
    """Whether a process ends soon (a zombie has ended)."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


# --- what it does ---------------------------------------------------------------------------------------------------


def test_a_command_runs_in_the_workspace_and_tells_what_came_of_it(workspace: Path) -> None:
    code = "import os, sys; print(os.getcwd(), sys.stdin.read()); print('é', file=sys.stderr); sys.exit(3)"
    done = run(workspace, [PY, "-c", code], {"input": "given"}, **ANY)
    assert done == shell.Completed(3, f"{workspace} given\n", "é\n", 0)
    (workspace / "sub").mkdir()
    assert run(workspace, ["pwd"], {"folder": "sub"}, **ANY).stdout == f"{workspace}/sub\n"
    assert run(workspace, ["sh", "-c", "kill -9 $$"], **ANY).code == -9
    assert run(workspace, ["cat"], {"input": b"\xff!"}, **ANY).stdout == "\ufffd!"


def test_without_a_process_it_runs_too(workspace: Path) -> None:
    (workspace / "hi").write_text("#!/bin/sh\necho hi $1\n")
    (workspace / "hi").chmod(0o755)
    assert asyncio.run(shell.run(["./hi", "there"])).stdout == "hi there\n"
    with pytest.raises(BadInput, match="list of texts"):
        asyncio.run(shell.run("ls"))  # type: ignore[arg-type]


def test_a_text_is_refused_with_the_list_that_it_may_mean(workspace: Path) -> None:
    error = run(workspace, "git commit -m 'two words'", **ANY)
    assert isinstance(error, BadInput) and "['git', 'commit', '-m', 'two words']" in str(error)
    assert isinstance(run(workspace, [], **ANY), BadInput)
    assert isinstance(run(workspace, ["a", 1], **ANY), BadInput)


def test_a_command_that_is_not_there_says_so(workspace: Path) -> None:
    @weft.workflow(name="shell.absent")
    async def absent() -> None:
        await shell.run(["weft-has-no-such-command"])

    with pytest.raises(FileNotFoundError, match="no such command"):
        drive(str(workspace.parent / "j.db"), lambda r: r.run(absent), policy=weft.Policy(allow=("shell:**",)))


def test_it_gets_a_small_environment_without_secrets(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "abcdefgh12345")
    monkeypatch.setenv("SOMETHING", "else")
    names = {line.partition("=")[0] for line in run(workspace, ["env"], **ANY).stdout.splitlines()}
    assert "PATH" in names
    assert names.isdisjoint({"MY_API_KEY", "SOMETHING", "PYTHONPATH", "WEFT_POLICY"})


def test_variables_are_part_of_what_is_decided(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL_TEST_PASS", "tell-nobody-this")
    token = weft.secret("a-token", env="SHELL_TEST_PASS")
    code = "import os; print(len(os.environ['T']), os.environ['N'], os.environ['T'])"
    options = {"env": {"N": "1", "T": token}}
    error = run(workspace, [PY, "-c", code], options, allow=(f"shell:{PY} **",))
    assert isinstance(error, Denied) and error.resource.startswith("env N=1 ")
    allow = shlex.split(error.fix)[-1]
    done = run(workspace, [PY, "-c", code], options, allow=(allow,))
    assert done.stdout == "16 1 [secret:a-token]\n", "the value reaches the command, and no journal"
    assert isinstance(run(workspace, [PY, "-c", code], options, allow=(allow,), deny=("secret:a-token",)), Denied)
    preload = {"env": {"LD_PRELOAD": "./evil.so"}}
    assert isinstance(run(workspace, ["git", "status"], preload, allow=("shell:git status",)), Denied)


# --- what it must not do --------------------------------------------------------------------------------------------


def test_by_default_nothing_runs_and_the_line_says_what_to_allow(workspace: Path) -> None:
    for argv in (["echo", "hi"], ["echo", "two words", "*", "it's"], ["echo", "a=1"]):
        error = run(workspace, argv)
        assert isinstance(error, Denied) and error.action == "shell.run"
        allow = shlex.split(error.fix)[-1]
        assert run(workspace, argv, allow=(allow,)).stdout == " ".join(argv[1:]) + "\n"
        assert isinstance(run(workspace, [*argv, "more"], allow=(allow,)), Denied)


@pytest.mark.parametrize(
    ("argv", "input"),
    [
        (["rm", "x"], None), (["/bin/rm", "x"], None), (["sh", "-c", "rm x"], None), (["env", "rm", "x"], None),
        (["./tool", "x"], None), (["bash"], "rm x\n"), (["env", "-i", "sh"], "r\"m\" x\n"),
        ([PY, "-"], "import os; os.system('rm x')"), (["sh", "-c", "sh"], b"rm x"),
        (["xargs", "-n", "1"], "rm x"), (["nice", "bash", "-s"], "eval $(echo cm0gLXg= | base64 -d)"),
    ],
)  # fmt: skip
def test_a_denied_command_is_denied_in_other_clothes(workspace: Path, argv: list[str], input: Any) -> None:
    (workspace / "x").write_text("precious")
    (workspace / "tool").symlink_to("/bin/rm")
    options = {} if input is None else {"input": input}
    error = run(workspace, argv, options, allow=("shell:**",), deny=("shell:rm **",))
    assert isinstance(error, Denied)
    assert (workspace / "x").exists()


def test_what_is_only_data_to_a_program_is_data(workspace: Path) -> None:
    done = run(workspace, ["sort"], {"input": "rm\na\n"}, allow=("shell:**",), deny=("shell:rm **",))
    assert done.stdout == "a\nrm\n"


def test_only_what_is_on_wefts_own_path_is_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = workspace / "git"
    trap.write_text("#!/bin/sh\necho trapped\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    assert "git version" in run(workspace, ["git", "--version"], allow=("shell:git --version",)).stdout
    assert isinstance(run(workspace, ["./git", "--version"], allow=("shell:git --version",)), Denied)
    assert run(workspace, ["./git"], allow=("shell:./git",)).stdout == "trapped\n"


def test_a_relative_program_is_the_workspaces_wherever_it_runs(workspace: Path) -> None:
    for folder, word in ((workspace, "mine"), (workspace / "sub", "other")):
        folder.mkdir(exist_ok=True)
        (folder / "tool").write_text(f"#!/bin/sh\necho {word}; pwd\n")
        (folder / "tool").chmod(0o755)
    done = run(workspace, ["./tool"], {"folder": "sub"}, allow=("shell:./tool",))
    assert done.stdout == f"mine\n{workspace}/sub\n"


def test_where_it_runs_must_be_readable(workspace: Path) -> None:
    (workspace / "out").symlink_to("../outside")
    for folder in ("../outside", "out", "/etc"):
        error = run(workspace, ["ls"], {"folder": folder}, **ANY)
        assert isinstance(error, Denied) and error.action == "file.read"


# --- how it ends ----------------------------------------------------------------------------------------------------

FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
far = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(os.getpid(), child.pid, far.pid, flush=True)
open("pids", "w").write(f"{os.getpid()} {child.pid} {far.pid}")
time.sleep(60)
"""


def pids(workspace: Path) -> list[int]:
    deadline = time.monotonic() + 60
    place = workspace / "pids"
    while not place.exists() or len(place.read_text().split()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(word) for word in place.read_text().split()]


def test_in_time_or_not_all_of_its_family_ends(workspace: Path) -> None:
    began = time.monotonic()
    error = run(workspace, [PY, "-c", FAMILY], {"timeout": 2}, **ANY)
    assert isinstance(error, StepTimeout) and "did not finish within 2 s" in str(error)
    assert time.monotonic() - began < 50, "they would sleep for a minute"
    assert all(gone(pid) for pid in pids(workspace))


def test_one_that_takes_no_request_to_end_is_ended(workspace: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    began = time.monotonic()
    error = run(workspace, [PY, "-c", code], {"timeout": 1}, **ANY)
    assert isinstance(error, StepTimeout) and "up" in str(error)
    assert time.monotonic() - began < 50


def test_given_up_by_its_body_it_ends(workspace: Path) -> None:
    @weft.workflow(name="shell.given_up")
    async def given_up() -> str:
        try:
            async with asyncio.timeout(2):
                await shell.run([PY, "-c", FAMILY])
        except TimeoutError:
            return "given up"
        return "ended"

    found = drive(str(workspace.parent / "j.db"), lambda r: r.run(given_up), policy=weft.Policy(allow=("shell:**",)))
    assert found == "given up"
    assert all(gone(pid) for pid in pids(workspace))


def test_what_it_leaves_running_ends_with_it(workspace: Path) -> None:
    began = time.monotonic()
    done = run(workspace, ["sh", "-c", "sleep 60 & echo $!"], **ANY)
    assert time.monotonic() - began < 50
    assert gone(int(done.stdout))


def test_an_endless_output_is_cut_and_told(workspace: Path) -> None:
    code = "import sys\nsys.stdout.write('first ' + 'x' * 5_000_000 + ' last')"
    done = run(workspace, [PY, "-c", code], {"limit": 1000}, **ANY)
    assert done.stdout.startswith("first x") and done.stdout.endswith("x last")
    assert len(done.stdout) < 1200 and done.cut == 5_000_011 - 1000
    assert f"[... {done.cut:,} bytes left out; output.read({done.stdout_ref!r}, 1) shows them ...]" in done.stdout
    assert done.stdout_ref is not None and done.stderr_ref is None
    assert asyncio.run(output.search(done.stdout_ref, "x last$")).matches[0].column == 5_000_006
    error = run(workspace, ["yes"], {"timeout": 1, "limit": 100}, **ANY)
    assert isinstance(error, StepTimeout)


def test_a_command_that_reads_nothing_of_its_input_ends(workspace: Path) -> None:
    assert run(workspace, ["true"], {"input": "x" * 5_000_000}, **ANY).code == 0


# --- once -----------------------------------------------------------------------------------------------------------


def test_a_command_is_not_run_twice_by_a_crash(workspace: Path) -> None:
    program = workspace.parent / "crashing.py"
    program.write_text(
        """
import asyncio, os, sys
import weft
from weft.tool import output, shell

@weft.workflow(name="crashing")
async def crashing(effect: str):
    run = shell.run if effect == "" else shell.run.options(effect=effect)
    script = "echo x >> count; if [ $(wc -l < count) = 1 ]; then kill -9 $PPID; fi"
    try:
        return (await run(["sh", "-c", script])).code
    except weft.errors.UnknownOutcome:
        return "unknown"

async def main():
    async with weft.Runtime(sys.argv[1], policy=weft.Policy(allow=("shell:**",))) as runtime:
        runs = await runtime.resume_all()
        print(await (runs[0] if runs else await runtime.start(crashing, sys.argv[2])))

asyncio.run(main())
"""
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for effect, said, lines in (("", "unknown\n", 1), ("idempotent", "0\n", 2)):
        (workspace / "count").unlink(missing_ok=True)
        command = [PY, str(program), str(workspace.parent / f"j{effect}.db"), effect]
        first = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert first.returncode == -signal.SIGKILL, first.stderr
        again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert again.stdout == said, again.stderr
        assert len((workspace / "count").read_text().splitlines()) == lines


def test_decisions_stand_in_the_journal(workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, ["echo", "hi"], {})
        await run
        return await runtime.recovery.records(run.id)

    records = drive(str(workspace.parent / "journal.db"), use, policy=weft.Policy(allow=("shell:echo *",)))
    assert [(r.action, r.resource, r.verdict) for r in records if isinstance(r, Decision)] == [
        ("shell.run", "echo hi", "allow")
    ]
