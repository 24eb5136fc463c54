"""Finding workflows in the user's files, and their arguments in the user's words."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from weft.core.codec import bind_plain
from weft.core.errors import BadInput, UnknownWorkflow
from weft.core.workflow import Workflow, registry

_WEFT = Path(__file__).parent.parent


def load(target: str) -> ModuleType:
    """Import a file (under its stem, with its folder on the path) or a dotted module."""
    path = Path(target)
    if path.suffix == ".py" and path.is_relative_to(_WEFT):  # a workflow of Weft's own
        return importlib.import_module(".".join(["weft", *path.relative_to(_WEFT).with_suffix("").parts]))
    try:
        if path.suffix != ".py" and not path.exists():
            sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(target)
        if not path.is_file():
            raise BadInput(f"there is no file {target}; give the Python file that declares the workflow")
        path = path.resolve()
        known = sys.modules.get(path.stem)
        if known is not None and getattr(known, "__file__", None) == str(path):
            return known
        if path.stem in sys.modules or path.stem in sys.stdlib_module_names:
            raise BadInput(f"{target} has the name of a module in use ({path.stem}); rename the file")
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[path.stem]
            raise
        return module
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        raise BadInput(f"{target} could not be loaded: {_where(error)}{type(error).__name__}: {error}") from error


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: "
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if len(frames) > 1 else ""


def find(target: str) -> Workflow[..., Any]:
    """`FILE` (if it declares one workflow) or `FILE:workflow`."""
    file, separator, name = target.rpartition(":")
    if not separator:
        file, name = target, ""
    module = load(file)
    here = {
        w.name.removeprefix(f"{module.__name__}."): w for w in registry.values() if w.fn.__module__ == module.__name__
    }
    if not here:
        raise UnknownWorkflow(f"{file} declares no workflow; mark an `async def` in it with @weft.workflow")
    if name:
        if name in here:
            return here[name]
        near = difflib.get_close_matches(name, here, 1)
        hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(sorted(here))}"
        raise UnknownWorkflow(f"{file} has no workflow {name!r}; {hint}")
    if len(here) > 1:
        main = here.get(Path(file).stem)
        if main is None:
            raise BadInput(f"{file} has several workflows ({', '.join(sorted(here))}); say which: {file}:NAME")
        return main
    return next(iter(here.values()))


def arguments(workflow: Workflow[..., Any], inputs: list[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`--input` words (JSON, @file with JSON, or key=value) as the workflow's typed arguments."""
    return bind_plain(workflow.fn, merged(inputs))


def merged(inputs: list[str]) -> Any:
    """The same as one value: an object, or the only JSON there is."""
    whole: Any = {}
    for word in inputs:
        key, separator, value = word.partition("=")
        if word.startswith("@"):
            whole = _merge(whole, _json(_read(word[1:]), word), word)
        elif separator and key.isidentifier():
            whole = _merge(whole, {key: _loose(value)}, word)
        else:
            whole = _merge(whole, _json(word, "--input"), word)
    return whole


def _read(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the input file {path} could not be read: {error}") from None


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{what}: {text[:80]!r} is neither JSON nor key=value: {error}") from None


def _loose(text: str) -> Any:
    """A value on the command line: JSON if it is, else the words themselves."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merge(whole: Any, part: Any, word: str) -> Any:
    if whole == {}:
        return part
    if isinstance(whole, dict) and isinstance(part, dict):
        return {**whole, **part}
    raise BadInput(f"--input {word}: can't be combined with the inputs before it; give one JSON object or key=value")
