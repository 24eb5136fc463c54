"""What an agent's actions come down to, tool by tool: acts, and the effect of each in the words of the schema.

The names are those of Agent libOS's tools as its documentation gives them. An action that nobody here knows becomes an
act called `unknown`, which is reported, for nobody can say whether it was safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.safety.git_words import known as known_to_git
from benchmarks.safety.world import World

Action = dict[str, Any]
AGENT = "base-agent:v0"
"""The image of who names none."""


@dataclass
class Act:
    """One thing that is done. `do`: by which function of `agent` and `bare`; `effect`: what it does to the world, if it
    does anything. `aside`: the action does this on its way, so the task need not speak of it. `after`: only if the act
    before was done."""

    do: str
    args: dict[str, Any] = field(default_factory=dict)
    effect: dict[str, Any] | None = None
    aside: bool = False
    after: bool = False
    tool: str = ""
    number: int = 0


def every(found: Iterable[Act]) -> Iterator[Act]:
    """Them, and those that other hands carry out for them."""
    for act in found:
        yield act
        yield from every(act.args.get("script", ()))


def acts(actions: Iterable[Action], world: World) -> list[Act]:
    """Those of a whole script, each after a turn of the model."""
    found: list[Act] = []
    folder = ""
    for action in actions:
        action = {key: value for key, value in action.items() if key != "tool_args"} | action.get("tool_args", {}) | {
            "action": action["action"]
        }  # fmt: skip
        if action["action"] == "set_working_directory":
            folder = str(Path(folder, action["path"]))
        for key in ("path", "target_path"):
            if folder and isinstance(action.get(key), str):
                action[key] = str(Path(folder, action[key]))
        found.append(Act("think", {}, {"type": "external.provider_call", "provider": "llm", "operation": "complete"}))
        found += [_named(act, action["action"]) for act in _acts(action, world)]
    for number, act in enumerate(every(found)):
        act.number = number
    return found


def _named(act: Act, tool: str) -> Act:
    act.tool = tool
    return act


def _acts(action: Action, world: World) -> Iterator[Act]:
    name = action["action"]
    if name in QUIET:
        yield Act("nothing")
    elif name in TOOLS:
        yield from TOOLS[name](action, world)
    elif known_to_git(name):
        yield from _git(name, {key: value for key, value in action.items() if key != "action"}, world)
    elif action.get("benchmark_effects"):  # a tool that a skill or a candidate made
        for effect in action["benchmark_effects"]:
            yield from _of_effect(effect, action, world)
    else:
        yield Act("unknown", {"name": name})


def _of_effect(effect: dict[str, Any], action: Action, world: World) -> Iterator[Act]:
    """What has this effect, whatever the tool is called."""
    known = EFFECTS.get(effect["type"])
    yield from TOOLS[known]({**action, **effect, "action": known}, world) if known else [Act("unknown", effect)]


def within(action: Action, world: World) -> list[Act]:
    """The acts of an action that another hand carries out."""
    return [_named(act, action["action"]) for act in _acts(action, world)]


# --- files and commands ---------------------------------------------------------------------------------------------


def _file(do: str, verb: str) -> Callable[[Action, World], Iterator[Act]]:
    def made(action: Action, world: World) -> Iterator[Act]:
        path = action.get("path", ".")
        args = {"path": path} | ({"content": str(action.get("content", ""))} if do == "write" else {})
        yield Act(do, args, {"type": f"filesystem.{verb}", "path": world.place_of(path)})

    return made


def _shell(action: Action, world: World) -> Iterator[Act]:
    argv = [str(word) for word in action["argv"]]
    yield Act("shell", {"argv": argv}, {"type": "shell.exec", "argv": argv})


def _git(name: str, options: dict[str, Any], world: World) -> Iterator[Act]:
    """What it changes is seen in the files; what it shows is read."""
    if name != "git_diff" or options.get("scope", "worktree") != "worktree":
        yield Act("git", {"tool": name, "options": options})
        return
    named = [one if isinstance(one, str) else one["path"] for one in options.get("paths", ())]
    for path in named or world.changed() or ["."]:
        args = {"tool": name, "options": {**options, "paths": [path]}}
        yield Act("git", args, {"type": "filesystem.read", "path": path}, aside=True)


# --- memory ---------------------------------------------------------------------------------------------------------


def _object(do: str) -> Callable[[Action, World], Iterator[Act]]:
    def made(action: Action, world: World) -> Iterator[Act]:
        namespace, name = action.get("namespace") or "process", action.get("name")
        args = {"key": f"{namespace}/{name}", "owner": world.owner_of(f"{namespace}/{name}")}
        kind = "object.read" if do == "recall" else "object.write"
        yield Act(do, args, {"type": kind, "namespace": namespace, "name": name})

    return made


def _from_file(action: Action, world: World) -> Iterator[Act]:
    yield from TOOLS["read_text_file"](action, world)
    for act in TOOLS["create_memory_object"](action, world):
        act.after = True
        yield act


def _to_file(action: Action, world: World) -> Iterator[Act]:
    yield from TOOLS["read_memory_object"](action, world)
    for act in TOOLS["write_text_file"](action, world):
        act.after = True
        yield act


# --- people, processes, what agents grow by ---------------------------------------------------------------------------


def _human(kind: str) -> Callable[[Action, World], Iterator[Act]]:
    def made(action: Action, world: World) -> Iterator[Act]:
        text = str(action.get("question") or action.get("message") or action.get("reason") or "may I?")
        kinds = action.get("request_kind", kind)
        yield Act("ask", {"question": text}, {"type": "human.request", "request_kind": kinds})

    return made


def _process(kind: str) -> Callable[[Action, World], Iterator[Act]]:
    def made(action: Action, world: World) -> Iterator[Act]:
        image = action.get("image") or AGENT
        named = {"image": image} if "image" in action else {}
        rights = [f"{verb}:./{path}" for verb in ("read", "write") for path in _handed(action, verb)]
        told: list[Act] = [act for inner in action.get("script", ()) for act in within(inner, world)]
        told += [act for path in _handed(action, "read") for act in TOOLS["read_text_file"]({"path": path}, world)]
        args = {"image": image, "rights": rights, "script": told, "keep": bool(action.get("preserve_capabilities"))}
        yield Act("exec" if kind == "exec" else "spawn", args, {"type": f"process.{kind}", **named})

    return made


def _handed(action: Action, verb: str) -> list[str]:
    return [*action.get(f"inherit_{verb}_files", ()), *action.get(f"inherit_{verb}_dirs", ())]


def _skill(action: Action, world: World) -> Iterator[Act]:
    skill = action.get("skill_id") or world.skill_at(action.get("path", ""))
    if action["action"] in ("load_skill_from_yaml", "register_skill_path"):
        yield from _reads(world.files_of(action.get("path", ""), ("SKILL.md",)), world)
    yield Act("activate", {"name": skill}, {"type": "skill.activate", "skill_id": skill})
    for tool in world.tools_of(skill):
        yield Act("register", {"name": tool}, {"type": "jit.register", "tool": tool}, aside=True, after=True)


def _register(action: Action, world: World) -> Iterator[Act]:
    tool = action.get("name") or action.get("tool") or action.get("candidate_id")
    yield Act("register", {"name": str(tool)}, {"type": "jit.register", "tool": tool})


def _image(action: Action, world: World) -> Iterator[Act]:
    path = action.get("path", "")
    yield from _reads(world.files_of(path, ("IMAGE.yaml",)), world)
    image = action.get("image_id") or action.get("image") or world.image_at(path)
    yield Act("add_image", {"image": image}, {"type": "image.register", "image": image}, after=bool(path))


def _commit(action: Action, world: World) -> Iterator[Act]:
    image = action.get("image_id") or action.get("image")
    yield Act("commit_image", {"image": str(image)}, {"type": "image.commit", "image": image})


def _reads(paths: Iterable[str], world: World) -> Iterator[Act]:
    for path in paths:
        yield Act("read", {"path": path}, {"type": "filesystem.read", "path": world.place_of(path)}, aside=True)


def _looks(world: World) -> list[Action]:
    """What a fork tries of which nothing is said: all that the task looks at."""
    return [one for one in world.task.mock_actions if one["action"] in ("read_text_file", "read_memory_object")]


def _checkpoint(do: str, kind: str) -> Callable[[Action, World], Iterator[Act]]:
    def made(action: Action, world: World) -> Iterator[Act]:
        name = action.get("checkpoint_ref") or action.get("checkpoint_id") or action.get("name") or action.get("reason")
        name = str(name or action.get("checkpoint") or "checkpoint")
        told = [act for inner in action.get("script", _looks(world)) for act in within(inner, world)]
        args = {"name": name} | ({"script": [Act("nothing"), *told]} if do == "fork" else {})
        yield Act(do, args, {"type": f"checkpoint.{kind}", "checkpoint": name})

    return made


# --- the world outside ------------------------------------------------------------------------------------------------


def _rpc(action: Action, world: World) -> Iterator[Act]:
    endpoint = str(action.get("endpoint_id") or action.get("endpoint"))
    method = str(action.get("method_id") or action.get("method"))
    args = {"endpoint": endpoint, "method": method, "url": world.url_of(endpoint), "params": action.get("params")}
    yield Act("rpc", args, {"type": "jsonrpc.call", "endpoint": endpoint, "method": method})


def _provider(action: Action, world: World) -> Iterator[Act]:
    provider = action.get("provider", "mcp")
    operation = action.get("operation") or action.get("tool_id") or action.get("tool") or "call"
    effect = {"type": "external.provider_call", "provider": provider, "operation": operation}
    yield Act("provider", {"name": f"{provider}/{operation}"}, effect)


def _network(action: Action, world: World) -> Iterator[Act]:
    url = str(action.get("endpoint") or action.get("url"))
    yield Act("fetch", {"url": url}, {"type": "external.network", "endpoint": url})


def _exit(action: Action, world: World) -> Iterator[Act]:
    yield Act("exit")


TOOLS: dict[str, Callable[[Action, World], Iterator[Act]]] = {
    **dict.fromkeys(("read_text_file", "read_file", "skill_syscall_read"), _file("read", "read")),
    **dict.fromkeys(("write_text_file", "write_file"), _file("write", "write")),
    **dict.fromkeys(("list_directory", "read_directory"), _file("list", "read")),
    **dict.fromkeys(("write_directory", "create_directory"), _file("folder", "write")),
    **dict.fromkeys(("delete_file", "delete_directory"), _file("delete", "delete")),
    "run_shell_command": _shell,
    "read_memory_object": _object("recall"),
    **dict.fromkeys(("create_memory_object", "append_memory_object", "create_memory_namespace"), _object("remember")),
    "create_object_from_file": _from_file,
    "write_object_to_file": _to_file,
    **dict.fromkeys(("ask_human", "human_ask"), _human("question")),
    "human_output": _human("output"),
    "request_permission": _human("permission"),
    "spawn_child_process": _process("spawn"),
    "fork_child_process": _process("fork"),
    "exec_process": _process("exec"),
    **dict.fromkeys(("activate_skill", "load_skill", "load_skill_from_yaml", "register_skill_path"), _skill),
    "register_jit_tool": _register,
    **dict.fromkeys(("load_image_package", "load_image_from_yaml"), _image),
    "commit_checkpoint_to_image": _commit,
    "create_checkpoint": _checkpoint("checkpoint", "create"),
    "fork_checkpoint": _checkpoint("fork", "fork"),
    **dict.fromkeys(("call_jsonrpc_method", "call_jsonrpc", "jsonrpc_call"), _rpc),
    "call_mcp_tool": _provider,
    "http_request": _network,
    "process_exit": _exit,
}  # fmt: skip
EFFECTS = {
    "filesystem.read": "read_text_file", "filesystem.write": "write_text_file", "filesystem.delete": "delete_file",
    "shell.exec": "run_shell_command", "object.read": "read_memory_object", "object.write": "create_memory_object",
    "human.request": "ask_human", "process.spawn": "spawn_child_process", "process.fork": "fork_child_process",
    "process.exec": "exec_process", "skill.activate": "activate_skill", "jit.register": "register_jit_tool",
    "image.commit": "commit_checkpoint_to_image", "image.register": "load_image_package",
    "checkpoint.create": "create_checkpoint", "checkpoint.fork": "fork_checkpoint", "jsonrpc.call": "call_jsonrpc",
    "external.provider_call": "call_mcp_tool", "external.network": "http_request",
}  # fmt: skip
"""A tool that has each kind of effect."""
QUIET = frozenset(
    (
        *("echo", "parse_pytest_log", "get_current_time", "sleep", "get_working_directory", "set_working_directory"),
        *("wait_child_process", "list_child_processes", "merge_child_memory", "list_memory_namespace"),
        *("read_process_messages", "list_capabilities", "inspect_capability", "discover_skills", "inspect_skill"),
        *("read_skill_resource", "unload_skill", "propose_jit_tool", "validate_jit_tool", "list_checkpoints"),
        *("inspect_checkpoint", "diff_checkpoint", "list_jsonrpc_endpoints", "inspect_jsonrpc_endpoint"),
    )
)
"""Tools that have no effect of the schema's kinds."""
