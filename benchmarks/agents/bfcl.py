"""The multi-turn tasks of BFCL v4 and the eight simulated APIs that they are about, as tools.

The tasks lie in ../shared/data. The APIs (Apache-2.0) are in the package `bfcl-eval`, which would install a hundred
others: its wheel is fetched once into the user's cache folder and imported from there, nothing of it is installed.
"""

from __future__ import annotations

import ast
import gzip
import importlib
import inspect
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

DATA = Path(__file__).parents[3] / "shared" / "data"
VERSION = "2026.3.23"
HOME = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
APIS = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
PASSING = ("_last_modified", "_api_description", "parent")
"""What differs between equal states, or leads round in a circle."""


class Missing(Exception):
    """The tasks or the APIs are not here."""


class Call(msgspec.Struct, frozen=True):
    """A ground-truth call. `needs`: of parameters whose value comes out of the result of an earlier call, which one;
    `paths`: where in that result the value stands, if it is a part of its own."""

    api: str
    name: str
    arguments: dict[str, Any]
    needs: dict[str, int] = {}
    paths: dict[str, str] = {}


class Task(msgspec.Struct, frozen=True):
    """`config`: the state in which each API begins; `end`: the one in which all calls leave them."""

    id: str
    words: str
    config: dict[str, Any]
    calls: list[Call]
    end: Any = None

    def world(self) -> dict[str, Any]:
        """The APIs in the state in which the task begins."""
        return {name: _api(name, self.config.get(name, {})) for name in dict.fromkeys(one.api for one in self.calls)}


def run(world: dict[str, Any], call: Call, arguments: dict[str, Any] | None = None) -> Any:
    """Make a call; what the API answers, as JSON says it."""
    answer = getattr(world[call.api], call.name)(**(call.arguments if arguments is None else arguments))
    return json.loads(json.dumps(answer, default=str))


def sources(task: Task, name: str) -> dict[str, list[str]]:
    """Of the parameters of this function whose values come out of results of others: of which."""
    found: dict[str, list[str]] = {}
    for call in task.calls:
        if call.name == name:
            for parameter, source in call.needs.items():
                found.setdefault(parameter, []).append(task.calls[source].name)
    return found


def state(world: dict[str, Any]) -> Any:
    """All that the APIs hold, as plain data that can be compared."""
    return {name: _plain(one) for name, one in world.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    if hasattr(value, "__dict__"):
        return {key: _plain(one) for key, one in vars(value).items() if key not in PASSING}
    return value


@cache
def tasks(least: int = 3) -> list[Task]:
    """Those that have at least so many calls, and whose calls do the same each time. Raises Missing."""
    _import()
    found = []
    truth = {one["id"]: [call for turn in one["ground_truth"] for call in turn] for one in _lines("answers")}
    for one in _lines("base"):
        words = "\n".join(message["content"] for turn in one["question"] for message in turn)
        calls = [_read(text, one["involved_classes"]) for text in truth[one["id"]]]
        task = Task(one["id"], words, one.get("initial_config", {}), calls)
        if len(calls) >= least and (done := _done(task)) is not None:
            found.append(done)
    return found


def _done(task: Task) -> Task | None:
    """With its end, and with what its calls need of each other; None if it does not run, or not twice the same."""
    ends = []
    for _ in range(2):
        world, texts = task.world(), []
        try:
            for call in task.calls:
                texts.append(json.dumps(run(world, call)))
        except Exception:
            return None
        ends.append((state(world), texts))
    if ends[0] != ends[1]:
        return None
    calls = [_with_needs(task, number, texts) for number in range(len(task.calls))]
    return msgspec.structs.replace(task, calls=calls, end=ends[0][0])


def _with_needs(task: Task, number: int, texts: Sequence[str]) -> Call:
    """A value comes out of the first result that has it, unless the user said it."""
    call = task.calls[number]
    needs: dict[str, int] = {}
    paths: dict[str, str] = {}
    for parameter, value in call.arguments.items():
        if isinstance(value, bool | list | dict) or len(str(value)) < 3 or _stands_in(value, task.words):
            continue
        source = next((at for at in range(number) if _stands_in(value, texts[at])), None)
        if source is not None and task.calls[source].name != call.name and not _used(task, value, source):
            needs[parameter] = source
            path = next((path for path, one in _leaves(json.loads(texts[source])) if _same(one, value)), None)
            paths |= {} if path is None else {parameter: path}
    return msgspec.structs.replace(call, needs=needs, paths=paths)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(one, f"{path}[{key}]" if isinstance(value, list) else f'{path}["{key}"]')
    else:
        yield path, value


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _used(task: Task, value: Any, source: int) -> bool:
    """Whether it was known already when that call was made."""
    return any(value in one.arguments.values() for one in task.calls[: source + 1])


def _stands_in(value: Any, text: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(str(value))}(?!\w|\.\d)", text) is not None


# --- reading ----------------------------------------------------------------------------------------------------------


def _lines(what: str) -> Iterator[dict[str, Any]]:
    path = DATA / f"bfcl_multi_turn_{what}.jsonl.gz"
    if not path.exists():
        raise Missing(f"the tasks are not here: there is no {path.name} in shared/data")
    yield from map(json.loads, gzip.decompress(path.read_bytes()).splitlines())


def _read(text: str, involved: Sequence[str]) -> Call:
    """`cd(folder='x')` as a call."""
    node = ast.parse(text.strip(), mode="eval").body
    assert isinstance(node, ast.Call)
    name = ast.unparse(node.func)
    owner = next(one for one in involved if hasattr(_class(one), name))
    args = [ast.literal_eval(one) for one in node.args]
    kwargs = {str(one.arg): ast.literal_eval(one.value) for one in node.keywords}
    bound = inspect.signature(getattr(_class(owner), name)).bind(None, *args, **kwargs).arguments
    return Call(owner, name, json.loads(json.dumps({key: bound[key] for key in list(bound)[1:]})))


def _class(name: str) -> Any:
    return getattr(importlib.import_module(f"{HOME}.{APIS[name]}"), name)


def _api(name: str, config: dict[str, Any]) -> Any:
    made = _class(name)()
    if hasattr(made, "_load_scenario"):
        made._load_scenario(deepcopy(config))
    return made


@cache
def _import() -> None:
    """Let the APIs be imported. Raises Missing."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft" / "tests"
    wheel = folder / f"bfcl_eval-{VERSION}-py3-none-any.whl"
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        done = subprocess.run([*command, f"bfcl-eval=={VERSION}"], capture_output=True, text=True, timeout=100)
        if done.returncode or not wheel.exists():
            raise Missing(f"bfcl-eval {VERSION} could not be fetched: {done.stderr.strip()[-200:]}")
    try:
        importlib.import_module("mpmath")
    except ImportError:
        raise Missing("the APIs compute with mpmath: pip install 'weft[bench]'") from None
    sys.path.append(str(wheel))
