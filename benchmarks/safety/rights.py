"""What a task lets its agent do, as a Weft policy: of everything else, nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import weft
from benchmarks.safety.world import World
from weft.core.label import LEVELS

OWN = (
    "step,clock.read,chance.draw,event.publish,checkpoint.create:**", "memory:self/**", "model:llm/default",
    "image.load:tool/**",
)  # fmt: skip
"""What every agent may: think, remember, be remembered, and make tools of its own, which grant it nothing."""

GIT_LOOKS = ("status", "diff", "log", "show", "blame", "for-each-ref", "remote", "worktree list")
GIT_CHANGES = {
    "write": (
        *("add", "commit", "switch", "restore --staged", "branch", "tag", "merge", "stash", "worktree add"),
        *("apply", "fetch", "pull", "push"),
    ),
    "delete": ("clean", "reset", "restore", "worktree remove"),
}  # fmt: skip


def rights(world: World) -> weft.Policy:
    """The policy. What may not be handed on has depth=0."""
    task = world.task
    given = task.capabilities
    allow = list(OWN)
    for verb in ("read", "write", "delete"):
        files = given.get("filesystem", {})
        allow += [f"{verb}:{_path(path)}" for path in files.get(f"delegable_{verb}", ())]
        allow += [f"{verb}:{_path(path)} depth=0" for path in files.get(verb, ())]
    if given.get("human"):
        allow.append("ask:**")
    if given.get("process", {}).get("spawn"):
        allow.append("spawn:**")
    allow += [f"image.load:skill/{name}" for name in _names(given.get("skill", {}), "execute")]
    allow += [f"image.commit:{name}" for name in _names(given.get("image", {}), "write", "admin")]
    executes = _names(given.get("image", {}), "execute")
    allow += [f"process.exec:{name}" for name in executes or ("**",)]  # becoming another program grants nothing
    allow += _remote(world)
    allow += [f"memory.read:setup/{key}" for key, one in world.objects.items() if one.get("grant_to_process")]
    allow += [f"memory.read:setup/{key}" for key, one in world.objects.items() if one.get("include_in_context")]
    allow += [f"checkpoint.restore:{one['name']}" for one in _checkpoints(world) if one.get("grant_execute")]
    allow += [f"read:{path} depth=0" for one in _checkpoints(world) for path in _revoked(one)]
    allow += _git(given.get("git", {}), world.workspace)
    shell = given.get("shell", {}).get("policy", "always_deny")
    asks = ("shell:**",) if shell not in ("always_deny", "always_allow") else ()
    allow += ["shell:**"] if shell == "always_allow" else []
    return weft.Policy(
        base="none", allow=tuple(allow), ask=asks, label=tuple(_labels(world)), clear=tuple(_cleared(world)),
        workspace=str(world.workspace),
    )  # fmt: skip


def revoked_after(world: World) -> list[tuple[str, weft.Policy]]:
    """(action, path) of rights that are taken away once a checkpoint was made."""
    return [("file.read", path) for one in _checkpoints(world) for path in _revoked(one)]


def _path(path: str) -> str:
    return f"./{path.removesuffix('/*')}"


def _names(given: dict[str, Any], *rights: str) -> list[str]:
    return ["**" if name == "*" else name for right in rights for name in given.get(right, ())]


def _checkpoints(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.task.setup.get("checkpoints", [])
    return found


def _revoked(checkpoint: dict[str, Any]) -> list[str]:
    head = "filesystem:workspace:"
    return [
        _path(one["resource"].removeprefix(head))
        for one in checkpoint.get("revoke_after", ())
        if one["resource"].startswith(head) and one["right"] == "read"
    ]


def _remote(world: World) -> list[str]:
    """A method of a service, and the way to it."""
    found = []
    for one in world.task.capabilities.get("jsonrpc", {}).get("method_read", ()):
        found.append(f"rpc.call:{one['endpoint']}/{'**' if one['method'] == '*' else one['method']}")
        if url := world.url_of(one["endpoint"]):
            found.append(f"net:{urlsplit(url).netloc}")
    return found


def _git(given: dict[str, Any], workspace: Path) -> list[str]:
    held = set(given.get("workspace", ()))
    words = list(GIT_LOOKS) if held & {"read", "diff"} else []
    words += [word for right, some in GIT_CHANGES.items() if right in held for word in some]
    return [f"shell:git {SAFE} {word} **" for word in words] + ([f"read:{workspace}/.", "read:./.git"] if words else [])


SAFE = "-c core.fsmonitor=false -c core.hooksPath=/dev/null -c protocol.allow=never --no-pager"
"""How git is run: with none of the repository's helpers."""


def _labels(world: World) -> list[str]:
    by_name = {one["name"]: one for one in world.objects.values()}
    found = [
        f"{said} memory.read:{world.owner_of(key)}/{key}"
        for key, one in world.objects.items()
        if (said := _label(one.get("metadata", {})))
    ]
    for one in world.task.setup.get("git", {}).get("file_labels", ()):
        if said := _label(by_name.get(one["source_object"], {}).get("metadata", {})):
            found.append(f"{said} read:./{one['path']}")
    return found


def _cleared(world: World) -> list[str]:
    """Places that the host trusts, and with what."""
    found = []
    for one in world.task.setup.get("sink_trust", ()):
        level = str(one.get("max_sensitivity", "public"))
        said = _label({"sensitivity": level if level in LEVELS else "public", **_whose(one)})
        sink = _sink(one["pattern"])
        if one.get("trust_level") == "trusted" and said and sink:
            found.append(f"{said} {sink}")
    return found


def _sink(pattern: str) -> str:
    """A place as Weft names it; nothing for what Weft has no name for, which is trusted with nothing."""
    kind, _, name = pattern.partition(":")
    match kind:
        case "llm":
            return f"model.generate:llm/{'**' if name == '*' else name}"
        case "human":
            return "human.ask:**"
        case "jsonrpc":
            return f"rpc.call:{name.replace(':', '/').replace('*', '**')}"
        case "filesystem":
            return f"file.write:{_path(name.removeprefix('workspace:'))}"
    return ""


def _whose(one: dict[str, Any]) -> dict[str, Any]:
    return {"tenants": one.get("tenants", ()), "principals": one.get("principals", ())}


def _label(metadata: dict[str, Any]) -> str:
    """Sensitivity, and whose it is: tenants, and principals under a name of their own."""
    level = str(metadata.get("sensitivity", "public"))
    level = level if level in LEVELS else "secret"  # what it means is not known
    tenants = [*metadata.get("tenants", ()), *filter(None, [metadata.get("tenant")])]
    tenants += [
        f"principal.{one}" for one in (*metadata.get("principals", ()), *filter(None, [metadata.get("principal")]))
    ]
    if level == "public" and not tenants:
        return ""
    return f"{level} tenant={','.join(tenants)}" if tenants else level
