"""What a run may do: bases, policies, refusals that say what to add, children, revocation, one-shot uses."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.errors import BadInput, Denied
from weft.core.record import Decision, Outcome, Reserved


def drive(store: str, use: Callable[[weft.Runtime], Awaitable[Any]], policy: weft.Policy | None = None) -> Any:
    async def main() -> Any:
        async with weft.Runtime(store, policy=policy) as runtime:
            return await use(runtime)

    return asyncio.run(main())


def run(store: str, workflow: Any, *args: Any, policy: weft.Policy | None = None) -> Any:
    return drive(store, lambda runtime: runtime.run(workflow, *args), policy)


@weft.step
def read(path: str) -> str:
    return Path(path).read_text()


@weft.step
async def read_async(path: str) -> str:
    return Path(path).read_text()  # noqa: ASYNC240


@weft.step
def write(path: str, text: str) -> None:
    Path(path).write_text(text)


@weft.step
def remove(path: str) -> None:
    Path(path).unlink()


@weft.step
def shell(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@weft.step
def connect(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), timeout=5) as connection:
        return connection.recv(100)


@weft.step(needs="write:{path}")
def write_declared(path: str, text: str) -> None:
    Path(path).write_text(text)


STEPS = {s.name.rpartition(".")[2]: s for s in (read, read_async, write, remove, shell, connect, write_declared)}


@weft.workflow
async def does(*calls: tuple[Any, ...]) -> list[Any]:
    """Each call in turn: its result, or what it was denied."""
    found: list[Any] = []
    for name, *args in calls:
        try:
            found.append(await STEPS[name](*args))
        except Denied as error:
            found.append(("denied", error.action, error.fix))
    return found


# --- bases ----------------------------------------------------------------------------------------------------------


def test_without_a_policy_a_run_reads_its_workspace_and_touches_nothing_else(store: str, workspace: Path) -> None:
    outside = workspace.parent / "outside"
    found = run(
        store,
        does,
        ("read", "a.txt"),
        ("read_async", str(workspace / "a.txt")),
        ("read", str(outside / "secret.txt")),
        ("read_async", "../outside/secret.txt"),
        ("write", "b.txt", "x"),
        ("remove", "a.txt"),
        ("shell", "true"),
        ("connect", "127.0.0.1", 9),
    )
    assert found[:2] == ["of the workspace"] * 2
    assert [one[:2] for one in found[2:]] == [
        ("denied", "file.read"), ("denied", "file.read"), ("denied", "file.write"), ("denied", "file.delete"),
        ("denied", "shell.run"), ("denied", "net.connect"),
    ]  # fmt: skip
    assert not (workspace / "b.txt").exists()
    assert (workspace / "a.txt").exists()


def test_the_line_that_a_refusal_gives_is_the_one_that_allows_it(store: str, workspace: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                server.accept()[0].sendall(b"hello")
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    calls = [
        ("read", str(workspace.parent / "outside" / "secret.txt")),
        ("write", "b.txt", "written"),
        ("shell", sys.executable, "-c", "print('it ran')"),
        ("connect", "127.0.0.1", server.getsockname()[1]),
        ("write_declared", "c.txt", "declared"),
        ("remove", "b.txt"),
    ]
    specs: list[str] = []
    for _ in range(40):  # a step may need several things, one after the other
        found = run(store, does, *calls, policy=weft.Policy(allow=tuple(specs)))
        fixes = [one[2] for one in found if isinstance(one, tuple)]
        if not fixes:
            break
        import shlex

        for fix in fixes:
            words = shlex.split(fix[fix.index("--allow") :])
            specs.append(words[1])
    server.close()
    assert found == ["the secret", None, "it ran\n", b"hello", None, None]
    assert (workspace / "c.txt").read_text() == "declared"


def test_bases(store: str, workspace: Path) -> None:
    [denied] = run(store, does, ("read", "a.txt"), policy=weft.Policy(base="none"))
    assert denied[:2] == ("denied", "step.run")
    [denied] = run(store, does, ("read", "a.txt"), policy=weft.Policy(base="program"))
    assert denied[:2] == ("denied", "file.read")
    assert run(store, does, ("write", "../outside/new", "x"), policy=weft.Policy(base="all")) == [None]


def test_a_policy_that_is_wrong_is_refused_where_it_is_made() -> None:
    with pytest.raises(BadInput, match="base 'nothing'"):
        weft.Policy(base="nothing")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no action 'raed'"):
        weft.Policy(allow=("raed:./x",))


# --- who may what ---------------------------------------------------------------------------------------------------


def test_deny_wins(store: str, workspace: Path) -> None:
    (workspace / ".env").write_text("KEY=1")
    policy = weft.Policy(allow=("read:./.env",), deny=("read:./.env",))
    [denied] = run(store, does, ("read", ".env"), policy=policy)
    assert denied[:2] == ("denied", "file.read")


def test_the_journal_itself_is_out_of_reach(workspace: Path) -> None:
    journal = str(workspace / "journal.db")
    found = run(journal, does, ("read", journal), ("write", journal, "x"), policy=weft.Policy(allow=("write:./",)))
    assert [one[:2] for one in found] == [("denied", "file.read"), ("denied", "file.write")]


@weft.workflow
async def parent(rights: list[str] | None, path: str) -> Any:
    child = does if rights is None else does.options(rights=rights)
    return await child(("read", path), ("write", path, "by a child"))


def test_a_child_gets_what_it_is_given_of_its_parents_rights(store: str, workspace: Path) -> None:
    policy = weft.Policy(allow=("write:./",))
    assert run(store, parent, None, "a.txt", policy=policy) == ["of the workspace", None]
    narrow = run(store, parent, ["read:./", "step:**"], "a.txt", policy=policy)
    assert narrow[0] == "by a child"
    assert narrow[1][:2] == ("denied", "file.write")
    wide = run(store, parent, ["write:/", "step:**"], "../outside/secret.txt", policy=policy)
    assert [one[:2] for one in wide] == [("denied", "file.read"), ("denied", "file.write")]


@weft.workflow
async def careful(path: str) -> list[Any]:
    found: list[Any] = [await read(path)]
    with weft.grant("step,spawn:**", "read:./docs"):
        for step, args in ((read, (path,)), (write, (path, "x"))):
            try:
                found.append(await step(*args))
            except Denied as error:
                found.append(error.action)
        found.append(await does(("read", path), ("read", "docs/b.txt")))
    await write(path, "y")
    return found


def test_a_grant_in_a_body_only_narrows(store: str, workspace: Path) -> None:
    (workspace / "docs").mkdir()
    (workspace / "docs" / "b.txt").write_text("b")
    found = run(store, careful, "a.txt", policy=weft.Policy(allow=("write:./",)))
    assert found[:3] == ["of the workspace", "file.read", "file.write"]
    assert [one if isinstance(one, str) else one[1] for one in found[3]] == ["file.read", "b"]
    assert (workspace / "a.txt").read_text() == "y"


def test_a_grant_in_a_script_adds(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        with weft.grant("write:./b.txt"):
            within = await runtime.run(does, ("write", "b.txt", "x"))
        return within, await runtime.run(does, ("write", "b.txt", "x"))

    within, after = drive(store, use)
    assert within == [None]
    assert after[0][:2] == ("denied", "file.write")


# --- revocation and uses --------------------------------------------------------------------------------------------


go = weft.Mailbox("go", str)


@weft.workflow
async def patient(path: str, depth: int) -> Any:
    if depth:
        return await patient(path, depth - 1)
    await weft.publish("there", weft.current().id)
    await go.receive()
    return await does(("read", path))


def test_a_revocation_reaches_descendants_at_their_next_effect(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(patient, "a.txt", 3)
        row = await runtime.row(run.id)
        image = await runtime.rights.image(row.image)
        number = next(n for n, one in enumerate(image.capabilities) if "file.read" in one.actions)
        leaf = await runtime.run(wait_there)
        await runtime.rights.revoke(run.id, number, "me")
        await runtime.send(leaf, "go", "on")
        return await run

    [denied] = drive(store, use)
    assert denied[:2] == ("denied", "file.read")


@weft.workflow
async def wait_there() -> str:
    there: str = await weft.wait_for("there")
    return there


def test_a_fork_is_bound_by_its_origins_revocations(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, ("read", "a.txt"))
        assert await run == ["of the workspace"]
        image = await runtime.rights.image((await runtime.row(run.id)).image)
        number = next(n for n, one in enumerate(image.capabilities) if "file.read" in one.actions)
        await runtime.rights.revoke(run.id, number, "me")
        return await (await runtime.fork(run.id, at=1))

    [denied] = drive(store, use)
    assert denied[:2] == ("denied", "file.read")


@weft.workflow
async def twice(path: str) -> list[Any]:
    return await does(("write_declared", path, "1"), ("write_declared", path, "2"))


def test_a_right_to_one_use_is_used_once(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, ("write_declared", "b.txt", "1"), ("write_declared", "b.txt", "2"))
        return await run, await runtime.recovery.records(run.id)

    policy = weft.Policy(allow=("write:./b.txt uses=1",))
    found, records = drive(store, use, policy)
    assert found[0] is None
    assert found[1][:2] == ("denied", "file.write")
    assert (workspace / "b.txt").read_text() == "1"
    assert [record.uses for record in records if isinstance(record, Reserved)] != []
    assert [record.verdict for record in records if isinstance(record, Decision)] == ["allow", "deny"]


def test_one_use_cannot_be_handed_to_two_children(store: str, workspace: Path) -> None:
    @weft.workflow(name="two_children")
    async def two_children() -> list[Any]:
        one = await does(("write_declared", "b.txt", "1"))
        other = await does(("write_declared", "b.txt", "2"))
        return [*one, *other]

    found = run(store, two_children, policy=weft.Policy(allow=("write:./b.txt uses=1",)))
    assert found[0] is None
    assert found[1][:2] == ("denied", "file.write")


def test_a_use_that_nobody_may_watch_is_refused(store: str, workspace: Path) -> None:
    [denied] = run(store, does, ("write", "b.txt", "x"), policy=weft.Policy(allow=("write:./b.txt uses=1",)))
    assert denied[:2] == ("denied", "file.write")
    assert "needs=" in denied[2]
    assert not (workspace / "b.txt").exists()


# --- what is written down -------------------------------------------------------------------------------------------


def test_every_decision_stands_in_the_journal(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, ("read", "a.txt"), ("write", "b.txt", "x"))
        await run
        return await runtime.recovery.records(run.id)

    records = drive(store, use)
    seen = [(r.action, Path(r.resource).name, r.verdict) for r in records if isinstance(r, Decision)]
    assert seen == [("file.read", "a.txt", "allow"), ("file.write", "b.txt", "deny")]
    steps = [record for record in records if isinstance(record, Outcome) and record.kind == "step"]
    assert all(record.by for record in steps)


def test_the_environment_and_the_settings_file_say_what_is_allowed(
    store: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "weft.toml").write_text('[policy]\nallow = ["write:./b.txt"]\n')
    monkeypatch.setenv("WEFT_ALLOW", "write:./c.txt; delete:./c.txt")
    found = run(store, does, ("write", "b.txt", "x"), ("write", "c.txt", "x"), ("remove", "c.txt"), ("remove", "b.txt"))
    assert found[:3] == [None] * 3
    assert found[3][:2] == ("denied", "file.delete")
    (workspace / "weft.toml").write_text('[policy]\nallwo = ["write:./b.txt"]\n')
    with pytest.raises(BadInput, match=r"weft\.toml: \[policy\]"):
        run(store, does)
