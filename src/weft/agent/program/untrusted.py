"""A program from a file that nobody vouches for, as a workflow: ``weft run program.py --untrusted --tool files``.

It is run as a model's program is: in the embedded Python, with these tools and no others, under the run's policy.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from weft.agent.program.course import Granted, perform
from weft.agent.program.limits import Limits
from weft.core.capability import nearest
from weft.core.errors import BadInput
from weft.core.workflow import workflow
from weft.runtime.guard import exempt
from weft.tool.declare import Tool
from weft.tool.toolset import Toolset


class Ran(msgspec.Struct, frozen=True):
    """What came of it: see `Performed`."""

    value: Any
    printed: str
    calls: int


@workflow(name="weft.untrusted")
async def untrusted(
    text: str, tools: list[str] | None = None, inputs: dict[str, Any] | None = None, limits: Limits | None = None
) -> Ran:
    """Run a program. `tools`: their names, as `named` takes them. Raises ProgramFailed, BadInput."""
    with exempt():  # imports are code, and no part of what a body does
        granted = Granted(named(tools or ()))
    done = await perform(text, granted, inputs=inputs or {}, limits=limits)
    return Ran(done.value, done.printed, done.calls)


def named(names: list[str] | tuple[str, ...]) -> Toolset:
    """The tools of these names: `files`, `commands`, `web`, `git`, `outputs`, `all` are Weft's own, `files:read_file`
    one of them; `module:NAME` and `file.py:NAME` are a tool or a toolset of yours. Raises BadInput."""
    found: dict[str, Tool[..., Any]] = {}
    for name in names:
        found.update((one.shown, one) for one in _named(name))
    return Toolset(*found.values())


def _named(name: str) -> Toolset:
    from weft.tool import builtin

    own = {"files": builtin.FILES, "commands": builtin.COMMANDS, "web": builtin.WEB, "git": builtin.GIT,
           "outputs": builtin.OUTPUTS, "all": builtin.ALL}  # fmt: skip
    place, _, one = name.rpartition(":") if ":" in name else (name, "", "")
    if place in own and (one or place == name):
        return own[place].only(one) if one else own[place]
    if not one:
        near = nearest(place, own)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(own)}, module:NAME and file.py:NAME"
        raise BadInput(f"there is no toolset {name!r}; {hint}")
    tool = getattr(_module(place), one, None)
    if not isinstance(tool, Tool | Toolset):
        raise BadInput(f"{place} has no tool or toolset {one!r}: make one of a function with @weft.tool.tool")
    return Toolset(tool)


def _module(place: str) -> ModuleType:
    """The module, or the file, which becomes one under its stem. Raises BadInput."""
    path = Path(place)
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        known = sys.modules.get(path.stem)
        if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
            return known
        if known is not None or path.stem in sys.stdlib_module_names:
            raise BadInput(f"{place} has the name of a module in use ({path.stem}); rename the file")
        spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
        assert spec is not None and spec.loader is not None
        sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[path.stem]
            raise
        return module
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{place} could not be loaded: {type(error).__name__}: {error}") from error
