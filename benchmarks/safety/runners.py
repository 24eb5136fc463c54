"""Two ways to run a task: as a process with narrow rights, and with tools that check nothing."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import weft
from benchmarks.safety.oracle import Done
from benchmarks.safety.task import Task
from benchmarks.safety.world import effect_of
from weft.core.errors import Denied
from weft.core.record import Decision
from weft.tool import files, shell

# --- with rights ----------------------------------------------------------------------------------------------------


async def _read(action: dict[str, Any]) -> Any:
    return await files.read_text(action["path"])


async def _write(action: dict[str, Any]) -> Any:
    await files.write_text(action["path"], action.get("content", ""))


async def _delete(action: dict[str, Any]) -> Any:
    await files.delete(action["path"])


async def _list(action: dict[str, Any]) -> Any:
    return await files.list(action.get("path", "."))


async def _shell(action: dict[str, Any]) -> Any:
    return (await shell.run(action["argv"], timeout=20)).code


async def _ask(action: dict[str, Any]) -> Any:
    return await weft.ask(str(action.get("question") or action.get("reason") or "may I?"), timeout=5, default="no")


@weft.step(needs="rpc.call:{endpoint}/{method}")
async def rpc(endpoint: str, method: str) -> str:
    raise ConnectionError(f"{endpoint}/{method}: nobody answers")  # the fixture's endpoint is a port that nobody has


async def _rpc(action: dict[str, Any]) -> Any:
    effect = effect_of(action, Path()) or {}
    return await rpc(str(effect["endpoint"]), str(effect["method"]))


@weft.step(needs="memory.read:{owner}/{name}")
async def recall(owner: str, name: str, value: Any) -> Any:
    return value


@weft.step(needs="memory.write:{owner}/{name}")
async def remember(owner: str, name: str) -> None:
    """The value is in the journal: an effect's outcome."""


TOOLS: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
    "read_text_file": _read,
    "read_file": _read,
    "skill_syscall_read": _read,
    "write_text_file": _write,
    "write_file": _write,
    "delete_file": _delete,
    "list_directory": _list,
    "run_shell_command": _shell,
    "ask_human": _ask,
    "human_ask": _ask,
    "request_permission": _ask,
    "jsonrpc_call": _rpc,
    "call_jsonrpc": _rpc,
}


@weft.workflow(name="safety.agent")
async def agent(actions: list[dict[str, Any]], objects: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Does as it is told: (outcome, note) of each action."""
    found = []
    for action in actions:
        name = action["action"]
        try:
            if name == "process_exit":
                found.append(("performed", ""))
                break
            if name in ("read_memory_object", "create_memory_object"):
                key = f"{action.get('namespace', 'process')}/{action.get('name')}"
                owner = objects.get(key, {}).get("owner", "self")
                if name == "read_memory_object":
                    await recall(owner, key, objects.get(key, {}).get("payload"))
                else:
                    await remember(owner, key)
            elif name in TOOLS:
                await TOOLS[name](action)
            else:
                found.append(("denied", f"there is no tool {name}"))
                continue
            found.append(("performed", ""))
        except Denied as error:
            found.append(("denied", str(error)))
        except Exception as error:
            found.append(("failed", repr(error)))
    return found


def rights(task: Task) -> weft.Policy:
    """The task's capabilities as a policy: of everything else, nothing."""
    allow = ["step,clock.read,chance.draw:**", "memory:self/**"]
    for verb in ("read", "write", "delete"):
        granted = task.capabilities.get("filesystem", {})
        for path in (*granted.get(verb, ()), *granted.get(f"delegable_{verb}", ())):
            allow.append(f"{verb}:./{path.removesuffix('/*')}")
    if task.capabilities.get("human"):
        allow.append("ask:**")
    if task.capabilities.get("process", {}).get("spawn"):
        allow.append("spawn:**")
    for method in task.capabilities.get("jsonrpc", {}).get("method_read", ()):
        allow.append(f"rpc.call:{method['endpoint']}/{method['method']}")
    for one in task.setup.get("memory_objects", ()):
        if one.get("grant_to_process"):
            allow.append(f"memory.read:setup/{one.get('namespace', 'process')}/{one['name']}")
    asks = bool(task.capabilities.get("shell"))
    return weft.Policy(base="none", allow=tuple(allow), ask=("shell:**",) if asks else ())


async def checked(task: Task, workspace: Path, store: Path) -> tuple[list[Done], int]:
    """Run it as a process with the task's rights: what came of each action, and how many were never decided about."""
    policy = rights(task)
    async with weft.Runtime(store, policy=policy | weft.Policy(workspace=str(workspace))) as runtime:
        objects = {
            f"{one.get('namespace', 'process')}/{one['name']}": {
                "owner": "self" if one.get("owner") == "target" else "setup",
                "payload": one.get("payload"),
            }
            for one in task.setup.get("memory_objects", ())
        }
        run = await runtime.start(agent, task.mock_actions, objects)
        person = asyncio.create_task(_person(runtime, bool(task.policy.get("human_auto_approve"))))
        try:
            outcomes = await run
        finally:
            person.cancel()
        records = await runtime.recovery.records(run.id)
    done = [
        Done(action["action"], effect_of(action, workspace), *outcome)
        for action, outcome in zip(task.mock_actions, outcomes, strict=False)
    ]
    decided = sum(isinstance(record, Decision) for record in records)
    touched = sum(one.effect is not None for one in done)
    return done, max(0, touched - decided)


async def _person(runtime: weft.Runtime, approves: bool) -> None:
    """Answers every question as the task says."""
    while True:
        for question in await runtime.store.questions():
            with contextlib.suppress(weft.WeftError):
                answer: Any = "once" if question.kind == "approval" else "yes"
                if not approves:
                    answer = "never" if question.kind == "approval" else "no"
                await runtime.people.answer(question.id, answer, "the task")
        await asyncio.sleep(0.02)


# --- without --------------------------------------------------------------------------------------------------------


def unchecked(task: Task, workspace: Path) -> list[Done]:
    """The same tools without a check: whether they did it is seen from what came back."""
    done = []
    for action in task.mock_actions:
        effect = effect_of(action, workspace)
        try:
            _do(action, workspace)
            done.append(Done(action["action"], effect, "performed"))
        except Exception as error:
            done.append(Done(action["action"], effect, "failed", repr(error)))
        if action["action"] == "process_exit":
            break
    return done


def _do(action: dict[str, Any], workspace: Path) -> None:
    path = workspace / str(action.get("path", "."))
    match action["action"]:
        case "read_text_file" | "read_file" | "skill_syscall_read":
            path.read_text()
        case "write_text_file" | "write_file":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(action.get("content", ""))
        case "delete_file":
            path.unlink()
        case "list_directory":
            list(path.iterdir())
        case "run_shell_command":
            subprocess.run(action["argv"], cwd=workspace, capture_output=True, timeout=20, stdin=subprocess.DEVNULL)
        case "process_exit" | "read_memory_object" | "create_memory_object":
            pass
        case name:
            raise NotImplementedError(name)
