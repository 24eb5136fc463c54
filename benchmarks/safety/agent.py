"""The agent as a Weft process: it does as it is told, by Weft's own primitives, and only what its rights let it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from urllib.request import Request, urlopen

import weft
from benchmarks.safety.acts import Act
from benchmarks.safety.git_words import git_words
from benchmarks.safety.rights import OWN, SAFE
from weft.core.errors import Denied, GitError
from weft.tool import files, git, shell

Found = dict[int, tuple[str, str]]
"""What came of each act, by its number: performed, denied, failed (let through, and not done) or unknown; and why."""

host: ContextVar[Any] = ContextVar("host")
"""Who carries out what no program can do by itself: forks of checkpoints, and images. See `runners.Host`."""
orders = weft.Mailbox("safety.orders", list)


@weft.workflow(name="safety.agent")
async def agent(script: list[Act], context: list[tuple[str, str]], named: list[str], found: Found) -> Found:
    """`context`: memory objects (owner, key) that it sees from the beginning. `named`: checkpoints to make first; then
    it waits for the word to go on, which may bring another script."""
    for owner, key in context:
        await recall(owner, key)
    for name in named:
        await weft.checkpoint(name)
    if named:
        script = [Act(**one) for one in await orders.receive()] or script
    done = True
    for at, act in enumerate(script):
        if act.after and not done:
            found[act.number] = ("failed", "what it needed was not there")
            continue
        if act.do == "exec":
            await _exec(act, script[at + 1 :], found)
            done = False
            continue
        found[act.number] = await _tried(act, found)
        done = found[act.number][0] == "performed"
        if act.do == "exit" or (act.do == "think" and not done):
            break  # without a model nothing is decided
    return found


async def _tried(act: Act, found: Found) -> tuple[str, str]:
    try:
        if act.do not in DOES:
            return "unknown", f"nobody here knows {act.args or act.do}"
        said = await DOES[act.do](act.args)
        if act.do in ("spawn", "fork"):
            found.update(said)  # what was done there
    except (Denied, GitError) as error:
        return "denied", str(error)
    except Exception as error:
        return "failed", repr(error)
    return "performed", ""


async def _exec(act: Act, rest: list[Act], found: Found) -> None:
    """Go on as another program. What it says that it needs is not given to it."""
    image = act.args["image"]
    try:
        await known(image)
        found[act.number] = ("performed", "")
        rights = None if act.args["keep"] else [*OWN, "image.load:**"]
        program = weft.workflow(name=image)(agent.fn)
        await weft.exec(program.options(rights=rights) if rights else program, rest, [], [], found)
    except Exception as error:
        found[act.number] = ("denied" if isinstance(error, Denied) else "failed", str(error))


# --- primitives -----------------------------------------------------------------------------------------------------


@weft.step(effect="pure", needs="model:llm/default")
async def think() -> None:
    """A turn of the model, which sees all that its process has seen."""


@weft.step(effect="pure", needs="memory.read:{owner}/{key}")
async def recall(owner: str, key: str) -> Any:
    """Raises LookupError if there is no such object."""
    return host.get().world.objects[key].get("payload")


@weft.step(needs="memory.write:{owner}/{key}")
async def remember(owner: str, key: str) -> None:
    """An object of its own. What it holds does not matter here."""
    host.get().world.objects[key] = {"owner": "target", "payload": "what the agent made"}


@weft.step(needs="image.load:skill/{name}")
async def activate(name: str) -> None:
    """Its tools are visible from now on. That grants nothing."""


@weft.step(needs="image.load:tool/{name}")
async def register(name: str) -> None: ...


@weft.step(needs="image.commit:{image}")
async def add_image(image: str) -> None:
    host.get().world.images[image] = ""


@weft.step(effect="pure")
async def known(image: str) -> None:
    """Raises LookupError for an image that nobody registered."""
    world = host.get().world
    told = {one.get("image") for one in world.task.allowed_effects}
    if image not in world.images and image not in told and not image.startswith("base-agent"):
        raise LookupError(f"there is no image {image}")


@weft.step(needs="checkpoint.restore:{name}")
async def fork(name: str, script: list[Act]) -> Found:
    return await host.get().fork(name, script)


@weft.step(needs="rpc.call:{endpoint}/{method}")
def rpc(endpoint: str, method: str, url: str, params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    with urlopen(Request(f"{url}/{method}", body, {"content-type": "application/json"}), timeout=5) as answer:
        return json.load(answer)


@weft.step(needs="tool.call:{name}")
async def provider(name: str) -> None: ...


@weft.step(needs="net:{url}")
def fetch(url: str) -> int:
    with urlopen(url, timeout=5) as answer:
        return int(answer.status)


# --- tools ------------------------------------------------------------------------------------------------------------


async def _spawn(args: dict[str, Any]) -> Found:
    """A child with what it is handed of its parent's rights: never more, whatever it is promised."""
    await known(args["image"])
    program = weft.workflow(name=args["image"])(agent.fn)
    rights = [*OWN, *args["rights"]] if args["rights"] else None
    child = await weft.spawn(program.options(rights=rights) if rights else program, args["script"], [], [], {})
    return await child


async def _git(args: dict[str, Any]) -> Any:
    options = args["options"]
    if args["tool"] in ("git_log", "git_repository_info"):
        return len(await git.log("."))
    if args["tool"] == "git_status":
        return len(await git.status("."))
    if args["tool"] == "git_diff" and options.get("scope", "worktree") == "worktree":
        return await git.diff(".", paths=options.get("paths", []))
    return await shell.run(["git", *SAFE.split(), *git_words(args["tool"], options)], timeout=20)


async def _ask(args: dict[str, Any]) -> Any:
    return await weft.ask(args["question"], timeout=5, default="no")


DOES: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
    "nothing": lambda _: asyncio.sleep(0),
    "exit": lambda _: asyncio.sleep(0),
    "think": lambda _: think(),
    "read": lambda args: files.read_text(args["path"]),
    "write": lambda args: files.write_text(args["path"], args["content"]),
    "delete": lambda args: files.delete(args["path"]),
    "list": lambda args: files.list(args["path"]),
    "folder": lambda args: files.write_text(f"{args['path']}/.keep", ""),
    "shell": lambda args: shell.run(args["argv"], timeout=20),
    "ask": _ask,
    "recall": lambda args: recall(args["owner"], args["key"]),
    "remember": lambda args: remember(args["owner"], args["key"]),
    "spawn": _spawn,
    "activate": lambda args: activate(args["name"]),
    "register": lambda args: register(args["name"]),
    "add_image": lambda args: add_image(args["image"]),
    "commit_image": lambda args: add_image(args["image"]),
    "checkpoint": lambda args: weft.checkpoint(args["name"]),
    "fork": lambda args: fork(args["name"], args["script"]),
    "rpc": lambda args: rpc(args["endpoint"], args["method"], args["url"], args["params"]),
    "provider": lambda args: provider(args["name"]),
    "fetch": lambda args: fetch(args["url"]),
    "git": _git,
}
