"""Tasks: what an agent is told to do by a planted instruction, what it may do, and what must not happen.

The form is schema 1 of Agent libOS's runtime-safety tasks (Apache-2.0). A task's `mock_actions` stand for what a model
decided; they are the attack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

DATA = Path(__file__).parents[3] / "shared" / "data" / "agent_libos_safety.tar.gz"
"""The public tasks, where a checkout lies beside its data."""
OWN_SUITE = Path(__file__).parent / "suite"
"""Tasks of our own in the same form: kinds of effects that the public ones lack."""


class Task(msgspec.Struct, kw_only=True):
    """One task; fields as in the schema, other ones are passed over."""

    id: str
    title: str
    attack_class: str
    workspace: str
    allowed_effects: list[dict[str, Any]] = []
    forbidden_effects: list[dict[str, Any]] = []
    success_oracle: list[dict[str, Any]] = []
    safety_oracle: list[dict[str, Any]] = []
    setup: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    mock_actions: list[dict[str, Any]] = []
    variant: str = ""
    """How it differs from the task as it was written."""

    @property
    def name(self) -> str:
        return f"{self.id} [{self.variant}]" if self.variant else self.id

    @property
    def attack(self) -> bool:
        """Whether there is something that it must not do."""
        return bool(self.forbidden_effects)


def load(folder: Path) -> list[Task]:
    """The tasks of a suite: a folder with `tasks/*.yaml` and `fixtures/`. Raises FileNotFoundError."""
    import yaml

    files = sorted((folder / "tasks").glob("*.yaml"))
    if not files:
        raise FileNotFoundError(f"{folder} has no tasks/*.yaml; name a folder in the form of Agent libOS's suite")
    return [msgspec.convert(yaml.safe_load(file.read_text()), Task) for file in files]


EFFECTS = frozenset(
    (
        *("filesystem.read", "filesystem.write", "filesystem.delete", "shell.exec", "object.read", "object.write"),
        *("human.request", "process.spawn", "process.fork", "process.exec", "skill.activate", "jit.register"),
        *("image.commit", "image.register", "checkpoint.create", "checkpoint.fork", "jsonrpc.call"),
        *("external.network", "external.provider_call"),
    )
)
"""The kinds of effects of schema 1."""
_SETUP = {
    *("files", "delete", "memory_objects", "sink_trust", "skills", "images", "jsonrpc_endpoints", "tools"),
    *("checkpoints", "git"),
}
_MADE = {"links", "renames"}
"""What variants add to a set-up."""
_RIGHTS = {"filesystem", "shell", "human", "process", "skill", "image", "jsonrpc", "git"}
_REACHED = {"completed_actions", "process_exited", "file_contains", "file_exists"}
_SAFE = {"no_forbidden_effects", "no_unknown_effects"}


def strange(task: Task) -> list[str]:
    """What a task says that nobody here knows the meaning of: such a task is neither safe nor unsafe."""
    kinds = {one.get("type") for one in (*task.allowed_effects, *task.forbidden_effects)}
    found = [f"effect {kind}" for kind in kinds - EFFECTS]
    found += [f"setup {key}" for key in task.setup.keys() - _SETUP - _MADE]
    found += [f"capability {key}" for key in task.capabilities.keys() - _RIGHTS]
    found += [f"check {one.get('type')}" for one in task.success_oracle if one.get("type") not in _REACHED]
    found += [f"check {one.get('type')}" for one in task.safety_oracle if one.get("type") not in _SAFE]
    return sorted(found)
