"""All ground-truth calls of BFCL's multi-turn tasks load and fit: against the tools made of the hints and docstrings of
the benchmark's own simulated APIs, and against the schemas that it publishes for the same functions.

The calls lie in ../shared/data; the APIs and the schemas in the package `bfcl-eval`, whose wheel is fetched once into
the user's cache folder (nothing of it is installed).
"""

from __future__ import annotations

import ast
import asyncio
import gzip
import importlib
import inspect
import json
import os
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weft.core.content import ToolCall
from weft.tool import Tool, Toolset
from weft.tool.parameters import Misfit

DATA = Path(__file__).parents[2] / "shared" / "data"
VERSION = "2026.3.23"
APIS = {
    "gorilla_file_system": "GorillaFileSystem",
    "math_api": "MathAPI",
    "message_api": "MessageAPI",
    "posting_api": "TwitterAPI",
    "ticket_api": "TicketAPI",
    "trading_bot": "TradingBot",
    "travel_booking": "TravelAPI",
    "vehicle_control": "VehicleControlAPI",
}


@pytest.fixture(scope="module")
def wheel() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft" / "tests"
    found = cache / f"bfcl_eval-{VERSION}-py3-none-any.whl"
    if not found.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            str(cache),
            f"bfcl-eval=={VERSION}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        if done.returncode or not found.exists():
            pytest.skip(f"bfcl-eval {VERSION} could not be fetched: {done.stderr.strip()[-200:]}")
    return found


@pytest.fixture(scope="module")
def tasks() -> list[tuple[list[str], list[str]]]:
    """Of each task: the APIs that it is about, and its ground-truth calls as Python."""
    try:
        base, answers = (
            [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
            for path in (DATA / "bfcl_multi_turn_base.jsonl.gz", DATA / "bfcl_multi_turn_answers.jsonl.gz")
        )
    except FileNotFoundError as missing:
        pytest.skip(f"the benchmark's tasks are not here: {missing.filename}")
    truth = {one["id"]: [call for turn in one["ground_truth"] for call in turn] for one in answers}
    return [(one["involved_classes"], truth[one["id"]]) for one in base]


@pytest.fixture(scope="module")
def apis(wheel: Path) -> Iterator[dict[str, Any]]:
    """An object of each API, by the name of its class. What computes with many digits is not needed to read calls."""
    kept = dict(sys.modules)
    sys.modules.setdefault("mpmath", types.ModuleType("mpmath"))
    sys.path.insert(0, str(wheel))
    try:
        home = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
        yield {name: getattr(importlib.import_module(f"{home}.{module}"), name)() for module, name in APIS.items()}
    finally:
        sys.path.remove(str(wheel))
        for name in sys.modules.keys() - kept.keys():
            if name == "mpmath" or name.startswith("bfcl_eval"):
                del sys.modules[name]


def methods(api: Any) -> dict[str, Any]:
    return {name: one for name, one in inspect.getmembers(api, inspect.ismethod) if not name.startswith("_")}


def as_call(text: str, apis: dict[str, Any], involved: list[str]) -> tuple[str, ToolCall]:
    """`cd(folder='x')` as (class, call)."""
    node = ast.parse(text.strip(), mode="eval").body
    assert isinstance(node, ast.Call)
    name = ast.unparse(node.func)
    owner = next(one for one in involved if hasattr(apis[one], name))
    args = [ast.literal_eval(arg) for arg in node.args]
    kwargs = {str(arg.arg): ast.literal_eval(arg.value) for arg in node.keywords}
    arguments = inspect.signature(getattr(apis[owner], name)).bind(*args, **kwargs).arguments
    return owner, ToolCall(id="1", name=name, arguments=json.loads(json.dumps(arguments)))


Calls = list[tuple[str, ToolCall]]


@pytest.fixture(scope="module")
def truth(tasks: list[tuple[list[str], list[str]]], apis: dict[str, Any]) -> Calls:
    return [as_call(text, apis, involved) for involved, texts in tasks for text in texts]


def misfits(truth: Calls, tools: dict[str, Toolset]) -> list[str]:
    found = []
    for owner, call in truth:
        for arguments in (call.arguments, json.dumps(call.arguments)):
            try:
                tools[owner][call.name].parameters.read(arguments)
            except Misfit as error:
                found.append(f"{owner}.{call.name}({arguments}): {error}")
    return found


def test_all_calls_fit_the_tools_made_of_the_apis_themselves(truth: Calls, apis: dict[str, Any]) -> None:
    tools = {owner: Toolset(*(Tool(one) for one in methods(api).values())) for owner, api in apis.items()}
    assert len(truth) > 500
    assert misfits(truth, tools) == []
    specs = [(owner, tools[owner][name].spec) for owner, name in {(owner, call.name) for owner, call in truth}]
    assert all(spec.description for _, spec in specs)
    assert all("description" in one for _, spec in specs for one in spec.schema["properties"].values())


def test_all_calls_fit_the_schemas_that_the_benchmark_publishes(truth: Calls, wheel: Path) -> None:
    tools: dict[str, Toolset] = {}
    with zipfile.ZipFile(wheel) as package:
        for module, owner in APIS.items():
            lines = package.read(f"bfcl_eval/data/multi_turn_func_doc/{module}.json").decode().splitlines()
            tools[owner] = Toolset(*(published(json.loads(line)) for line in lines if line))
    assert misfits(truth, tools) == []


async def anything(**arguments: Any) -> dict[str, Any]:
    return arguments


KINDS = {"dict": "object", "float": "number", "tuple": "array", "any": None}


def published(function: dict[str, Any]) -> Tool[..., Any]:
    schema = as_json_schema(function["parameters"])
    return Tool(anything, name=function["name"], description=function["description"], schema=schema)


def as_json_schema(node: Any) -> Any:
    """The benchmark names types as Python does."""
    if isinstance(node, list):
        return [as_json_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: as_json_schema(one) for key, one in node.items()}
    if isinstance(node.get("type"), str):
        found["type"] = KINDS.get(node["type"], node["type"])
        if found["type"] is None:
            del found["type"]
    return found


def test_a_call_runs_and_a_wrong_one_is_told(apis: dict[str, Any]) -> None:
    apis["GorillaFileSystem"]._load_scenario({"root": {"workspace": {"type": "directory", "contents": {}}}})
    tools = Toolset(*(Tool(one) for one in methods(apis["GorillaFileSystem"]).values()))
    made = [
        ToolCall(id="1", name="mkdir", arguments={"dir_name": "temp"}),
        ToolCall(id="2", name="ls", arguments={"a": "true"}),
        ToolCall(id="3", name="ls", arguments={"all": True}),
        ToolCall(id="4", name="mkdirs", arguments={}),
    ]
    first, second, third, fourth = [asyncio.run(tools.call(one)) for one in made]
    assert (first.error, second.error) == (False, False)
    assert "temp" in second.text
    assert "all: there is no such parameter" in third.text
    assert "did you mean 'mkdir'?" in fourth.text
