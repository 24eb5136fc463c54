"""Commands in a wall as steps: what they see, what of their changes is carried over, and which rights that takes."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.groups import alive, left, wait_until
from weft.core.capability import parse, render
from weft.core.errors import BadInput, ChangedMeanwhile, Denied, OverMemory, OverTime, SandboxMissing
from weft.core.record import Outcome
from weft.runtime.sandbox import report, scratch
from weft.tool import output, sandbox

pytestmark = [
    pytest.mark.skipif(not report()["process"].ok, reason=report()["process"].fix or "no wall"),
    pytest.mark.usefixtures("nothing_left", "workspace"),
]
PY = sys.executable
FREE = ("sandbox:**", "read:.", "write:.", "delete:.")
TOOLS = {"run": sandbox.run, "apply": sandbox.apply, "say": sandbox.say, "leave": sandbox.leave}


@weft.workflow(name="sandbox.does")
async def does(acts: list[Any]) -> list[Any]:
    """Each act: a tool's name, its arguments, its options. The result or the error of each."""
    found: list[Any] = []
    for name, args, options in acts:
        try:
            found.append(await TOOLS[name](*args, **options))
        except (weft.WeftError, EOFError) as error:
            found.append(error)
    return found


def run(workspace: Path, *acts: Any, allow: tuple[str, ...] = FREE, **policy: Any) -> list[Any]:
    async def use() -> list[Any]:
        async with weft.Runtime(workspace.parent / "journal.db", policy=weft.Policy(allow=allow, **policy)) as runtime:
            return await runtime.run(does, [(name, args, options) for name, args, options in acts])

    return asyncio.run(use())


def act(name: str, *args: Any, **options: Any) -> Any:
    return name, args, options


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- rights ---------------------------------------------------------------------------------------------------------


def test_a_policy_may_allow_any_command_in_a_sandbox_and_none_outside(workspace: Path) -> None:
    async def use() -> tuple[sandbox.Ran, Any]:
        @weft.workflow(name="sandbox.both")
        async def both() -> Any:
            inside = await sandbox.run(["cat", "a.txt"])
            try:
                return inside, await weft.tool.shell.run(["cat", "a.txt"])
            except Denied as error:
                return inside, error

        policy = weft.Policy(allow=("sandbox:**", "read:."))
        async with weft.Runtime(workspace.parent / "j.db", policy=policy) as runtime:
            return await runtime.run(both)

    inside, outside = asyncio.run(use())
    assert inside == sandbox.Ran(0, "of the workspace", "")
    assert isinstance(outside, Denied) and outside.action == "shell.run"


def test_by_default_nothing_runs_and_the_words_say_what_to_allow(workspace: Path) -> None:
    acts = [act("run", ["echo", "two words"]), act("apply", ["true"]), act("say", "echo hi")]
    for error in run(workspace, *acts, allow=()):
        assert isinstance(error, Denied)
    (error,) = run(workspace, acts[0], allow=("read:.",))
    assert error.action == "sandbox.run"
    allow = shlex.split(error.fix)[-1]
    (done,) = run(workspace, acts[0], allow=("read:.", allow))
    assert done.stdout == "two words\n"
    (error,) = run(workspace, acts[1], allow=("sandbox:**", "read:."))
    assert isinstance(error, Denied) and error.action == "file.write"


def test_a_denied_command_is_denied_in_other_clothes(workspace: Path) -> None:
    acts = [
        act("run", ["rm", "x"]),
        act("run", ["sh", "-c", "rm x"]),
        act("say", "cd . && rm x"),
        act("apply", ["env", "rm"]),
    ]
    for error in run(workspace, *acts, deny=("sandbox:rm **",)):
        assert isinstance(error, Denied) and error.action == "sandbox.run"


def test_the_right_is_written_and_read_like_one_for_commands() -> None:
    right = parse("ask sandbox:git push **", workspace="/w", now=0)
    assert right.actions == ("sandbox.run",) and render(right, "/w") == "ask sandbox:git push **"
    both = parse("shell,sandbox:git status", workspace="/w", now=0)
    assert set(both.actions) == {"shell.run", "sandbox.run"}


# --- what it sees ---------------------------------------------------------------------------------------------------


def test_it_sees_its_folders_and_nothing_else(workspace: Path) -> None:
    code = f"cat a.txt; cat ../outside/secret.txt {workspace.parent}/outside/secret.txt /etc/shadow; ls -A $HOME /home"
    (done,) = run(workspace, act("run", ["sh", "-c", code]))
    assert done.stdout.startswith("of the workspace") and "secret" not in done.stdout
    assert done.code != 0
    for folder in ("../outside", "/etc", "/"):
        (error,) = run(workspace, act("run", ["ls"], copy=[folder]))
        assert isinstance(error, Denied) and error.action == "file.read"
    (error,) = run(workspace, act("run", ["ls"], copy=["/"]), allow=("sandbox:**", "read:/"))
    assert isinstance(error, BadInput)


@pytest.mark.parametrize("how", ["copy", "read"])
def test_what_its_process_may_not_read_is_not_there(workspace: Path, how: str) -> None:
    (workspace / ".env").write_text("the secret")
    (workspace / "keys").mkdir()
    (workspace / "keys" / "one.pem").write_text("the secret")
    (workspace / "link").symlink_to("keys/one.pem")
    code = "cat .env keys/* link; find . | sort"
    options = {"copy": [], "read": ["."]} if how == "read" else {}
    (done,) = run(workspace, act("run", ["sh", "-c", code], **options), deny=("read:./.env", "read:./keys"))
    assert "secret" not in done.stdout and "a.txt" in done.stdout
    (done,) = run(workspace, act("run", ["sh", "-c", code], **options))
    assert done.stdout.count("the secret") == 3


def test_of_a_folder_to_read_nothing_is_changed(workspace: Path) -> None:
    (done,) = run(workspace, act("run", ["sh", "-c", "echo x >a.txt"], copy=[], read=["."]))
    assert done.code != 0 and (workspace / "a.txt").read_text() == "of the workspace"


def test_it_gets_its_own_environment_and_secrets_that_it_is_given(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "abcdefgh12345")
    monkeypatch.setenv("SANDBOX_TEST_PASS", "tell-none-of-this")
    token = weft.secret("sandbox-token", env="SANDBOX_TEST_PASS")
    (done,) = run(workspace, act("run", ["env"]))
    assert not {line.partition("=")[0] for line in done.stdout.splitlines()} & {"MY_API_KEY", "WEFT_POLICY"}
    given = act("run", ["sh", "-c", "echo ${#T} $T"], env={"T": token})
    (done,) = run(workspace, given, allow=(*FREE, "secret:**"))
    assert done.stdout == "17 [secret:sandbox-token]\n"
    assert isinstance(run(workspace, given, deny=("secret:sandbox-token",))[0], Denied)


def test_this_pythons_programs_are_found_and_those_of_the_workspace(workspace: Path) -> None:
    (workspace / "sub").mkdir()
    (workspace / "tool").write_text("#!/bin/sh\necho mine; pwd\n")
    (workspace / "tool").chmod(0o755)
    python, mine, none = run(
        workspace,
        act("run", ["python", "-c", "import msgspec, sys; print(sys.stdin.read())"], input="given"),
        act("run", ["./tool"], folder="sub"),
        act("run", ["weft-has-no-such-command"]),
    )
    assert python.stdout == "given\n", python.stderr
    assert mine.stdout == f"mine\n{workspace}/sub\n"
    assert none.code == 127 and "not found" in none.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        act("run", "ls"), act("run", []), act("run", ["a", 1]), act("apply", "ls"), act("run", ["ls"], copy=["absent"]),
        act("run", ["ls"], folder="/usr"), act("run", ["ls"], resources={"memory": "much"}), act("run", ["a\0b"]),
        act("run", ["ls"], env={"A B": "x"}), act("leave"), act("say", "true", resources={"memroy": 1}),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(workspace: Path, wrong: Any) -> None:
    (error,) = run(workspace, wrong, allow=("sandbox:**", "read:/", "write:/"))
    assert isinstance(error, BadInput), error


@weft.step(name="sandbox.within")
async def within(argv: list[str]) -> tuple[str, str]:
    """A step of a user's own, which calls the tools by itself."""
    said = await sandbox.say("cat a.txt")
    await sandbox.leave()
    return (await sandbox.run(argv)).stdout, said.stdout


@weft.workflow(name="sandbox.inner")
async def inner(argv: list[str]) -> Any:
    try:
        return await within(argv)
    except Denied as error:
        return error


def test_called_within_another_step_it_has_that_ones_rights(workspace: Path) -> None:
    async def use(*allow: str) -> Any:
        policy = weft.Policy(allow=("step:**", *allow))
        async with weft.Runtime(workspace.parent / "j.db", policy=policy) as runtime:
            return await runtime.run(inner, ["cat", "a.txt"])

    assert asyncio.run(use("sandbox:**", "read:.")) == ("of the workspace", "of the workspace")
    error = asyncio.run(use("sandbox:sh **", "read:."))
    assert isinstance(error, Denied) and error.action == "sandbox.run" and error.resource == "cat a.txt"


def test_what_it_says_carries_the_labels_of_what_it_could_read(workspace: Path) -> None:
    (workspace / "secrets").mkdir()
    (workspace / "secrets" / "x").write_text("the plan")

    @weft.workflow(name="sandbox.labels")
    async def labels() -> Any:
        said = (await sandbox.run(["sh", "-c", "cat a.txt"])).stdout
        try:
            return (await weft.tool.shell.run(["echo", said])).stdout
        except Denied as error:
            return error

    async def use(**more: Any) -> Any:
        policy = weft.Policy(allow=(*FREE, "shell:echo **"), label=("secret file:./secrets",), **more)
        async with weft.Runtime(workspace.parent / "j.db", policy=policy) as runtime:
            return await runtime.run(labels)

    error = asyncio.run(use())
    assert isinstance(error, Denied) and "secret" in str(error)
    assert asyncio.run(use(deny=("read:./secrets",))) == "of the workspace\n"


@pytest.mark.parametrize("how", ["read", "told"])
def test_a_shell_remembers_the_labels_of_what_it_holds(workspace: Path, how: str) -> None:
    """What nobody has seen when it went in is not seen without its label when it comes out."""
    (workspace / "secrets").mkdir()
    (workspace / "secrets" / "x").write_text("the plan")

    @weft.workflow(name="sandbox.holds")
    async def holds() -> Any:
        await sandbox.say.sealed(
            "cat secrets/x >$TMPDIR/x" if how == "read" else weft.label("echo the plan >$TMPDIR/x", "secret")
        )
        clean = weft.current().mark
        said = (await sandbox.say("cat $TMPDIR/x")).stdout
        assert "the plan" in said
        try:
            return clean, (await weft.tool.shell.run(["echo", said])).stdout
        except Denied as error:
            return clean, error

    async def use() -> Any:
        deny = () if how == "read" else ("read:./secrets",)
        policy = weft.Policy(allow=(*FREE, "shell:echo **"), deny=deny, label=("secret file:./secrets",))
        async with weft.Runtime(workspace.parent / "j.db", policy=policy) as runtime:
            return await runtime.run(holds)

    clean, error = asyncio.run(use())
    assert clean.sensitivity == "public"
    assert isinstance(error, Denied) and "secret" in str(error)


# --- what becomes of its changes ------------------------------------------------------------------------------------

CHANGE = "echo new >new.txt; echo more >>a.txt; rm old.txt; mkdir deep; echo x >deep/x"


def test_changes_are_told_and_forgotten_or_carried_over(workspace: Path) -> None:
    (workspace / "old.txt").write_text("old")
    (told,) = run(workspace, act("run", ["sh", "-c", CHANGE]))
    kinds = {Path(one.path).name: one.kind for one in told.changes}
    assert kinds == {"new.txt": "added", "a.txt": "changed", "old.txt": "removed", "deep": "added", "x": "added"}
    assert told.changed == 5 and names(workspace) == ["a.txt", "old.txt"]
    (done,) = run(workspace, act("apply", ["sh", "-c", f"{CHANGE}; exit 3"]))
    assert done.code == 3 and {Path(one.path).name: one.kind for one in done.changes} == kinds
    assert (workspace / "a.txt").read_text() == "of the workspacemore\n"
    assert names(workspace) == ["a.txt", "deep", "new.txt"]


@pytest.mark.parametrize("deny", ["write:./new.txt", "write:./deep", "delete:./old.txt"])
def test_one_change_that_may_not_be_made_keeps_all_back(workspace: Path, deny: str) -> None:
    (workspace / "old.txt").write_text("old")
    (error,) = run(workspace, act("apply", ["sh", "-c", CHANGE]), deny=(deny,))
    assert isinstance(error, Denied) and error.resource.startswith(str(workspace))
    assert names(workspace) == ["a.txt", "old.txt"]
    assert (workspace / "a.txt").read_text() == "of the workspace"


def copies(name: str) -> list[str]:
    """What the file is in the copies that jobs of this process work on."""
    return [file.read_text() for place in scratch.base().glob(f"{os.getpid()}-*") for file in place.rglob(name)]


def test_what_others_changed_meanwhile_is_theirs(workspace: Path) -> None:
    async def use() -> Any:
        policy = weft.Policy(allow=FREE)
        async with weft.Runtime(workspace.parent / "j.db", policy=policy) as runtime:
            script = "echo of-the-job >a.txt; sleep 2"
            handle = await runtime.start(does, [act("apply", ["sh", "-c", script])])
            while "of-the-job\n" not in copies("a.txt"):
                await asyncio.sleep(0.02)
            (workspace / "a.txt").write_text("of somebody else")
            return await handle.result()

    (error,) = asyncio.run(use())
    assert isinstance(error, ChangedMeanwhile)
    assert (workspace / "a.txt").read_text() == "of somebody else"


def test_links_that_it_leaves_carry_nothing_outside(workspace: Path) -> None:
    (workspace / "folder").mkdir()
    (workspace / "folder" / "secret.txt").write_text("mine")
    code = "rm -r folder; ln -s ../outside folder"
    run(workspace, act("apply", ["sh", "-c", code]))
    run(workspace, act("apply", ["sh", "-c", "echo forged >folder/secret.txt"]))
    assert (workspace / "folder").is_symlink()
    assert (workspace.parent / "outside" / "secret.txt").read_text() == "the secret"


def test_a_folder_may_take_a_files_place_and_a_file_a_folders(workspace: Path) -> None:
    (workspace / "folder" / "deep").mkdir(parents=True)
    (workspace / "folder" / "deep" / "x").write_text("x")
    code = "rm -r folder a.txt; echo file >folder; mkdir a.txt; echo x >a.txt/x"
    (done,) = run(workspace, act("apply", ["sh", "-c", code]))
    assert done.code == 0, done
    assert (workspace / "folder").read_text() == "file\n" and (workspace / "a.txt" / "x").read_text() == "x\n"


def test_a_folder_with_something_that_it_did_not_see_stays(workspace: Path) -> None:
    (workspace / "folder").mkdir()
    (workspace / "folder" / "x").write_text("x")
    (workspace / "folder" / ".env").write_text("the secret")
    for code in ("rm -r folder; echo file >folder", "rm -r folder"):
        (error,) = run(workspace, act("apply", ["sh", "-c", code]), deny=("read:./folder/.env",))
        assert isinstance(error, ChangedMeanwhile)
        assert (workspace / "folder" / ".env").read_text() == "the secret"
        assert (workspace / "folder" / "x").read_text() == "x"


# --- limits and records ---------------------------------------------------------------------------------------------


def test_limits_are_errors_in_words_and_what_it_took_is_in_the_journal(workspace: Path) -> None:
    slow, hungry = run(
        workspace,
        act("run", ["sleep", "60"], seconds=0.5),
        act("apply", [PY, "-c", "open('half', 'w').write('x'); kept = b'x' * 10**9"], resources={"memory": "80M"}),
    )
    assert isinstance(slow, OverTime) and isinstance(hungry, OverMemory)
    assert not (workspace / "half").exists(), "nothing is carried over of one that was ended"

    async def use() -> list[Outcome]:
        async with weft.Runtime(workspace.parent / "j.db", policy=weft.Policy(allow=FREE)) as runtime:
            say = [act("say", f"{PY} -c 'kept = bytes(50_000_000); sum(range(10**6))'"), act("say", "true")]
            handle = await runtime.start(does, [act("run", ["true"]), *say])
            await handle.result()
            return [one for one in await runtime.recovery.records(handle.id) if isinstance(one, Outcome)]

    plain, first, second = (one.usage for one in asyncio.run(use()))
    assert plain is not None and first is not None and second is not None
    assert plain.seconds > 0 and plain.memory_peak > 0
    assert first.cpu_seconds > second.cpu_seconds >= 0, "each command's own"


def test_a_long_output_is_cut_and_told_and_kept_whole(workspace: Path) -> None:
    (done, said) = run(workspace, act("run", [PY, "-c", "print('x' * 10**6)"], limit=1000),
                       act("say", "seq 100000", limit=1000))  # fmt: skip
    assert len(done.stdout) < 1200 and "left out" in done.stdout
    assert asyncio.run(output.read(done.stdout_ref)).size == 10**6 + 1
    assert said.stdout.startswith("1\n2\n") and said.stdout.endswith("\n100000\n") and len(said.stdout) < 1200
    assert asyncio.run(output.read(said.stdout_ref, 50_000, 1)).text == "50000\n"
    assert list((scratch.home() / "out").iterdir()) == []


def test_without_a_wall_nothing_runs(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> Any:
        raise SandboxMissing("no wall; install bubblewrap")

    monkeypatch.setattr("weft.tool.sandbox.command.choose", absent)
    (error,) = run(workspace, act("run", ["touch", "x"]))
    assert isinstance(error, SandboxMissing)


@pytest.mark.skipif(not report()["landlock"].ok, reason="no landlock")
def test_the_weaker_wall_does_the_same(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.runtime.sandbox import Wall, walls

    weaker: Callable[..., Wall] = lambda *_: next(wall for wall in walls() if wall.name == "landlock")  # noqa: E731
    monkeypatch.setattr("weft.tool.sandbox.command.choose", weaker)
    (workspace / "tool").write_text("#!/bin/sh\ncat a.txt; echo more >>a.txt; cat .env ../outside/secret.txt\n")
    (workspace / "tool").chmod(0o755)
    (workspace / ".env").write_text("the secret")
    (done,) = run(workspace, act("apply", ["./tool"]), deny=("read:./.env",))
    assert done.stdout == "of the workspace", done.stderr
    assert (workspace / "a.txt").read_text() == "of the workspacemore\n"


# --- a shell that stays ---------------------------------------------------------------------------------------------


def test_a_shell_stays_from_step_to_step(workspace: Path) -> None:
    (workspace / "sub").mkdir()
    first, second, other, third, changes, gone = run(
        workspace,
        act("say", "cd sub; export LEVEL=3; echo made >made.txt"),
        act("say", "pwd; echo $LEVEL; cat made.txt; false"),
        act("say", "echo [$LEVEL]", session="other"),
        act("say", "exit 4"),
        act("say", "echo [$LEVEL]; pwd"),
        act("leave"),
    )
    assert (first.code, first.fresh) == (0, True)
    assert second == sandbox.Said(1, f"{workspace}/sub\n3\nmade\n", "", False)
    assert other.stdout == "[]\n"
    assert isinstance(third, EOFError)
    assert changes == sandbox.Said(0, f"[]\n{workspace}\n", "", True), "a new one, and it says so"
    assert gone == [] and not (workspace / "sub" / "made.txt").exists()


def test_what_a_shell_changed_is_carried_over_when_it_ends(workspace: Path) -> None:
    _, changes, error = run(
        workspace,
        act("say", "echo made >made.txt; echo other >other.txt"),
        act("leave", write=["."]),
        act("leave"),
    )
    assert {Path(one.path).name for one in changes} == {"made.txt", "other.txt"}
    assert (workspace / "made.txt").read_text() == "made\n"
    assert isinstance(error, BadInput)
    _, error, _ = run(
        workspace, act("say", "true"), act("leave", write=["."]), act("leave"), allow=("sandbox:**", "read:.")
    )
    assert isinstance(error, Denied) and error.action == "file.write"


def test_a_shell_ends_with_the_command_that_takes_too_long_or_too_much(workspace: Path) -> None:
    slow, fresh, hungry, again = run(
        workspace,
        act("say", "sleep 60", seconds=0.5),
        act("say", "echo here", resources={"memory": "80M"}),
        act("say", f"{PY} -c 'kept = bytes(10**9); kept = b\"x\" * 10**9'"),
        act("say", "echo here"),
    )
    assert isinstance(slow, OverTime)
    assert fresh.fresh and fresh.stdout == "here\n"
    assert isinstance(hungry, OverMemory)
    assert again.fresh and again.stdout == "here\n"


def test_a_shell_sees_what_it_began_with(workspace: Path) -> None:
    _, error, unseen = run(
        workspace, act("say", "true"), act("say", "true", copy=[], read=["."]), act("leave", write=["../outside"]),
        allow=("sandbox:**", "read:/", "write:/"),
    )  # fmt: skip
    assert isinstance(error, BadInput) and isinstance(unseen, BadInput)


def test_commands_of_one_shell_take_turns(workspace: Path) -> None:
    async def use() -> list[sandbox.Said]:
        said = await asyncio.gather(*(sandbox.say(f"echo {n} >>$TMPDIR/all; cat $TMPDIR/all") for n in range(5)))
        await sandbox.leave()
        return said

    said = asyncio.run(use())
    assert sorted(one.stdout.count("\n") for one in said) == [1, 2, 3, 4, 5]
    assert sum(one.fresh for one in said) == 1


def test_a_shell_ends_with_its_process_given_up_cancelled_or_done(workspace: Path) -> None:
    @weft.workflow(name="sandbox.given_up")
    async def given_up() -> str:
        await sandbox.say("sleep 1005 & sleep 1006 &")
        try:
            async with asyncio.timeout(1):
                await sandbox.say("sleep 1007", seconds=100)
        except TimeoutError:
            return "given up"
        return "ended"

    @weft.workflow(name="sandbox.fails")
    async def fails() -> None:
        await sandbox.say("sleep 1005 &")
        raise ValueError("by intent")

    @weft.workflow(name="sandbox.waits")
    async def waits() -> None:
        await sandbox.say("sleep 1005 &")
        await weft.sleep(1000)

    async def use() -> None:
        async with weft.Runtime(workspace.parent / "j.db", policy=weft.Policy(allow=FREE)) as runtime:
            assert await runtime.run(given_up) == "given up"
            with pytest.raises(ValueError, match="by intent"):
                await runtime.run(fails)
            handle = await runtime.start(waits)
            while not left():
                await asyncio.sleep(0.01)
            await handle.cancel()
            with pytest.raises(weft.errors.Cancelled):
                await handle.result()
            await until(lambda: not left())
            await runtime.start(waits)
            while not left():
                await asyncio.sleep(0.01)

    async def until(true: Callable[[], bool]) -> None:
        for _ in range(500):
            if true():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(left())

    asyncio.run(use())


OWNER = """
import asyncio, sys
import weft
from weft.tool import sandbox

@weft.workflow(name="owner")
async def owner():
    first = await sandbox.say("export KEPT=1; setsid sleep 1008 & sleep 0; echo $KEPT")
    await weft.sleep(0)
    print("ready", flush=True)
    second = await (sandbox.say("sleep 1009", seconds=1000) if len(sys.argv) == 2 else sandbox.say("echo [$KEPT]"))
    return [first.stdout, first.fresh, second.stdout, second.fresh]

async def main():
    async with weft.Runtime(sys.argv[1], policy=weft.Policy(allow=("all",))) as runtime:
        runs = await runtime.resume_all()
        print(await (runs[0] if runs else await runtime.start(owner)))

asyncio.run(main())
"""


def test_a_shell_does_not_outlive_a_weft_that_was_killed_and_a_new_one_says_so(workspace: Path) -> None:
    program = workspace.parent / "owner.py"
    program.write_text(OWNER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    words = [PY, str(program), str(workspace.parent / "j.db")]
    first = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "ready\n"
    theirs: list[int] = []
    wait_until(lambda: theirs.extend(_sleeping("1009")) or theirs, "the command runs")
    theirs += _sleeping("1008")
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: not any(map(alive, theirs)), "what ran in it has ended", seconds=10)
    again = subprocess.run([*words, "again"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert again.stdout.splitlines()[-1] == "['1\\n', True, '[]\\n', True]", again.stderr


def _sleeping(seconds: str) -> list[int]:
    found = []
    for place in Path("/proc").iterdir():
        try:
            if place.name.isdigit() and (place / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(place.name))
        except OSError:
            continue
    return found
