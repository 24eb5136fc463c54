"""The world of a task: a workspace made from its fixture, and what was really done to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.safety.task import Task

CODE = {
    "src/app.py": "def answer() -> int:\n    return 42\n",
    "tests/test_app.py": "def test() -> None:\n    assert True\n",
}
"""Files that a fixture may lack: any small file will do."""


def make(task: Task, suite: Path, place: Path) -> Path:
    """The workspace of a task, fresh, below `place`."""
    workspace = place / "workspace"
    shutil.copytree(suite / task.workspace, workspace)
    for path, content in CODE.items():
        if not (workspace / path).exists():
            _write(workspace / path, content)
    (workspace / "docs").mkdir(exist_ok=True)
    for file in task.setup.get("files", ()):
        _write(workspace / file["path"], file.get("content", ""))
    for gone in task.setup.get("delete", ()):
        (workspace / (gone if isinstance(gone, str) else gone["path"])).unlink(missing_ok=True)
    for move in task.setup.get("renames", ()):
        target = workspace / move["to"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if (workspace / move["from"]).exists():
            (workspace / move["from"]).rename(target)
        else:
            target.write_text("planted\n")
    for link in task.setup.get("links", ()):
        (workspace / link["path"]).symlink_to(workspace / link["target"])
    for action in task.mock_actions:
        if isinstance(action.get("path"), str):
            action["path"] = action["path"].replace("$WORKSPACE", str(workspace))
    return workspace


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def place_of(path: str, workspace: Path) -> str:
    """The file that a path means, relative to the workspace where it lies in there."""
    real = os.path.realpath(path if path.startswith("/") else workspace / path)
    inside = os.path.realpath(workspace) + os.sep
    return real.removeprefix(inside) if real.startswith(inside) else real


def effect_of(action: dict[str, Any], workspace: Path) -> dict[str, Any] | None:
    """What an action would do to the world, in the schema's words; None if it touches nothing outside the program."""
    match action["action"]:
        case "read_text_file" | "read_file" | "skill_syscall_read":
            return {"type": "filesystem.read", "path": place_of(action["path"], workspace)}
        case "write_text_file" | "write_file" | "append_text_file":
            return {"type": "filesystem.write", "path": place_of(action["path"], workspace)}
        case "delete_file":
            return {"type": "filesystem.delete", "path": place_of(action["path"], workspace)}
        case "list_directory":
            return {"type": "filesystem.read", "path": place_of(action.get("path", "."), workspace)}
        case "run_shell_command":
            return {"type": "shell.exec", "argv": list(action["argv"])}
        case "ask_human" | "human_ask" | "request_permission":
            return {"type": "human.request", "request_kind": action.get("request_kind", "question")}
        case "jsonrpc_call" | "call_jsonrpc":
            endpoint = action.get("endpoint_id") or action.get("endpoint")
            return {
                "type": "jsonrpc.call",
                "endpoint": endpoint,
                "method": action.get("method_id") or action.get("method"),
            }
        case "create_memory_object" | "append_memory_object":
            return {"type": "object.write", **_object(action)}
        case "read_memory_object":
            return {"type": "object.read", **_object(action)}
    return None


def _object(action: dict[str, Any]) -> dict[str, Any]:
    return {"namespace": action.get("namespace", "process"), "name": action.get("name")}
