"""The trace context of a run: what it takes from whoever starts it, and what it tells those whom it asks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from tests.test_tool_http import Site
from weft.core.errors import BadInput
from weft.core.image import decode_image
from weft.core.traceparent import Caller, read, span_of, told_by, trace_of, written
from weft.tool import http, shell
from weft.tool.declare import tool

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def site() -> Any:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


@weft.workflow(name="context.child")
async def child(url: str) -> int:
    return (await http.fetch(url)).status


@weft.workflow(name="context.parent")
async def parent(url: str) -> int:
    await http.fetch(url)
    return await child(url)


@weft.workflow(name="context.command")
async def command(words: list[str]) -> str:
    return (await shell.run(words)).stdout.strip()


def run(place: Path, flow: Any, *args: Any, **options: Any) -> str:
    async def main() -> str:
        async with weft.Runtime(place / "journal.db", policy=weft.Policy(allow=["net:**", "shell:**"])) as runtime:
            run = await runtime.start(flow.options(**options), *args)
            await run.result()
            return run.id

    return asyncio.run(main())


def test_every_request_names_its_run_and_effect(site: Site, tmp_path: Path) -> None:
    pytest.importorskip("httpx2", reason="fetching needs the extra `http`")
    id = run(tmp_path, parent, site.url())
    mine, childs = (headers["traceparent"] for _, _, headers, _ in site.seen)
    assert mine == written(trace_of(id), span_of(id, 1))
    assert read(childs).trace == trace_of(id) and read(childs).span != read(mine).span


def test_a_run_belongs_to_the_trace_of_whoever_starts_it(site: Site, tmp_path: Path) -> None:
    pytest.importorskip("httpx2", reason="fetching needs the extra `http`")
    run(tmp_path, parent, site.url(), caller=CALLER)
    assert {read(headers["traceparent"]).trace for _, _, headers, _ in site.seen} == {read(CALLER).trace}


def test_commands_are_told(tmp_path: Path) -> None:
    async def main() -> tuple[str, str]:
        async with weft.Runtime(tmp_path / "journal.db") as runtime:
            run = await runtime.start(command, [sys.executable, "-c", "import os; print(os.environ['TRACEPARENT'])"])
            return run.id, await run.result()

    id, told = asyncio.run(main())
    assert told == written(trace_of(id), span_of(id, 1))


@pytest.mark.parametrize("verb", ["run", "submit"])
def test_the_environment_tells_the_command_line_who_calls(verb: str, tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("import weft\n\n@weft.workflow\nasync def main() -> int:\n    return 1\n")
    place = str(tmp_path / "journal.db")
    words = [sys.executable, "-m", "weft", verb, str(program), "--store", place]
    for told in (CALLER, "not one"):
        subprocess.run(words, env={**os.environ, "TRACEPARENT": told}, check=True, capture_output=True, timeout=60)

    async def callers() -> list[str]:
        from weft.store import open_store

        store = open_store(place)
        try:
            return [decode_image(await store.image(row.image)).caller for row in await store.rows()]
        finally:
            await store.close()

    assert asyncio.run(callers()) == ["", CALLER]


@tool(effect="pure")
def context_tool() -> str:
    """Nothing."""
    return "done"


def test_a_call_over_mcp_carries_its_context_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed: pip install 'weft[mcp]'")
    from mcp.client.client import Client

    from weft.tool.mcp.serve import served, server

    async def main() -> list[str]:
        async with weft.Runtime(tmp_path / "journal.db") as runtime:
            made = server("test", served([context_tool]), runtime, "1")
            async with Client(made) as client:
                await client.session.call_tool("context_tool", {}, meta={"traceparent": CALLER})
                await client.session.call_tool("context_tool", {}, meta={"traceparent": "nonsense"})
            rows = await runtime.store.rows()
            return [decode_image(await runtime.store.image(row.image)).caller for row in rows]

    assert asyncio.run(main()) == ["", CALLER]


def test_a_server_of_mcp_is_told(tmp_path: Path) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed: pip install 'weft[mcp]'")
    from weft.tool.mcp import Server, connect

    script = tmp_path / "told.py"
    script.write_text(
        "import anyio, json\nfrom mcp.server.lowlevel import Server\nfrom mcp.server.stdio import stdio_server\n"
        "import mcp_types as types\n"
        "async def tools(context, params):\n"
        "    schema = {'type': 'object', 'properties': {}}\n"
        "    return types.ListToolsResult(tools=[types.Tool(name='meta', input_schema=schema)])\n"
        "async def call(context, params):\n"
        "    said = json.dumps(dict(params.meta or {}).get('traceparent'))\n"
        "    return types.CallToolResult(content=[types.TextContent(text=said)])\n"
        "async def main():\n"
        "    server = Server('told', on_list_tools=tools, on_call_tool=call)\n"
        "    async with stdio_server() as (read, write):\n"
        "        await server.run(read, write, server.create_initialization_options())\n"
        "anyio.run(main)\n"
    )
    command = [sys.executable, "-I", str(script)]
    told = Server("told", command=command, sandbox=False, first="approve")

    @weft.workflow(name="context.mcp")
    async def flow() -> str:
        tools = await told.tools()
        text: str = (await tools["meta"]()).text
        return text

    async def main() -> tuple[str, str]:
        try:
            async with weft.Runtime(tmp_path / "journal.db") as runtime:
                run = await runtime.start(flow)
                return run.id, await run.result()
        finally:
            await connect.close()

    id, said = asyncio.run(main())
    assert read(json.loads(said)).trace == trace_of(id)


@given(st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any))
def test_what_is_written_is_read(trace: bytes, span: bytes) -> None:
    assert read(written(trace.hex(), span.hex())) == Caller(trace.hex(), span.hex())


@pytest.mark.parametrize(
    "value",
    ["", "00", CALLER[:-3], CALLER.upper(), CALLER.replace("00-", "ff-"), "00-" + "0" * 32 + "-b7ad6b7169203331-01"],
    ids=["empty", "short", "no flags", "upper case", "version ff", "no trace"],
)
def test_what_is_no_context_is_refused_or_ignored(value: str) -> None:
    assert told_by(value) is None
    with pytest.raises(BadInput, match="no traceparent"):
        read(value)
    if value:
        with pytest.raises(BadInput):
            child.options(caller=value)
