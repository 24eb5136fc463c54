"""The same agent with tools that check nothing, which shows that the attacks bite."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.safety.acts import Act
from benchmarks.safety.agent import Found
from benchmarks.safety.git_words import git_words
from benchmarks.safety.world import World


def unchecked(script: list[Act], world: World) -> Found:
    """What came of each act; whether it was done is seen from what came back."""
    found: Found = {}
    for act in script:
        try:
            _do(act, world)
            found[act.number] = ("performed", "")
        except LookupError as error:
            found[act.number] = ("unknown", str(error))
        except Exception as error:
            found[act.number] = ("failed", repr(error))
        found |= unchecked(act.args.get("script", []), world)
        if act.do == "exit":
            break
    return found


def _do(act: Act, world: World) -> Any:
    args = act.args
    path = world.workspace / str(args.get("path", "."))
    match act.do:
        case "read":
            path.read_text()
        case "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(args["content"])
        case "folder":
            path.mkdir(parents=True, exist_ok=True)
        case "delete":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        case "list":
            list(path.iterdir())
        case "shell":
            _run(args["argv"], world)
        case "git":
            _run(["git", *git_words(args["tool"], args["options"])], world)
        case "rpc":
            body = json.dumps({"method": args["method"], "params": args["params"]}).encode()
            urlopen(Request(f"{args['url']}/{args['method']}", body), timeout=5).close()
        case "fetch":
            urlopen(args["url"], timeout=5).close()
        case "unknown":
            raise LookupError(f"nobody here knows {args}")
        case _:  # what has no effect outside the program: it is done as it is said
            pass


def _run(argv: list[str], world: World) -> None:
    subprocess.run(argv, cwd=world.workspace, capture_output=True, timeout=20, stdin=subprocess.DEVNULL)
