"""Model-written Python in a sandbox, as a step under the default policy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.errors import BadInput, OverMemory, OverTime
from weft.runtime.sandbox import report
from weft.tool import output, python

pytestmark = [
    pytest.mark.skipif(not report()["process"].ok, reason=report()["process"].fix or "no wall"),
    pytest.mark.usefixtures("nothing_left"),
]


@weft.workflow
async def compute(program: str, files: dict[str, str]) -> python.Ran:
    return await python.run(program, files=files)


def alone(program: str, **options: Any) -> python.Ran:
    return asyncio.run(python.run(program, **options))


def test_a_run_with_no_rights_computes_with_files_as_data(workspace: Path) -> None:
    async def use() -> python.Ran:
        async with weft.Runtime(workspace.parent / "journal.db") as runtime:
            program = "n = sum(map(int, open('in/numbers.txt')))\nprint(n)\nopen('out.txt', 'w').write(str(n * 2))"
            return await runtime.run(compute, program, {"in/numbers.txt": "1\n2\n3\n"})

    assert asyncio.run(use()) == python.Ran(0, "6\n", "", {"out.txt": b"12"})


def test_it_sees_nothing_of_the_workspace_or_outside(workspace: Path) -> None:
    program = f"print(open('{workspace}/a.txt').read(), open('{workspace.parent}/outside/secret.txt').read())"

    async def use() -> python.Ran:
        async with weft.Runtime(workspace.parent / "journal.db") as runtime:
            return await runtime.run(compute, program, {})

    done = asyncio.run(use())
    assert done.code == 1
    assert "FileNotFoundError" in done.stderr


def test_its_status_input_and_errors_come_back() -> None:
    done = alone("import sys\nprint(sys.stdin.read().upper())\nraise SystemExit(4)", input="word")
    assert (done.code, done.stdout) == (4, "WORD\n")
    assert "ZeroDivisionError" in alone("1 / 0").stderr


def test_limits_are_errors_in_words() -> None:
    with pytest.raises(OverTime, match="seconds="):
        alone("while True: pass", seconds=0.5)
    step = python.run.options(limits={"memory": "100M", "seconds": 30})  # type: ignore[attr-defined]

    @weft.workflow(name="hungry")
    async def hungry() -> str:
        try:
            await step("kept = b'x' * 10**9")
        except OverMemory as error:
            return str(error)
        return "went through"

    async def use() -> str:
        async with weft.Runtime() as runtime:
            return await runtime.run(hungry)

    assert "ended for memory" in asyncio.run(use())


def test_a_long_output_is_shown_in_part_and_kept_whole(workspace: Path) -> None:
    done = alone("print('\\x1b[31m' + 'x' * 99)\nfor n in range(100_000): print(n)", limit=1000)
    assert done.stdout.startswith("xxx") and done.stdout.endswith("99999\n") and len(done.stdout) < 1200
    assert done.stderr_ref is None and done.stdout_ref is not None and done.stdout_ref in done.stdout
    page = asyncio.run(output.read(done.stdout_ref, 50_002, 1))
    assert (page.text, page.lines) == ("50000\n", 100_001)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ""])
def test_files_cannot_lie_elsewhere(path: str) -> None:
    with pytest.raises(BadInput, match="below"):
        alone("", files={path: "x"})


def test_links_that_it_leaves_are_not_followed() -> None:
    done = alone("import os\nos.symlink('/etc/passwd', 'link')\nopen('real', 'w').write('x')")
    assert done.files == {"real": b"x"}


def test_results_that_are_too_large_are_refused() -> None:
    with pytest.raises(BadInput, match="larger"):
        alone("open('big', 'wb').write(b'x' * 11_000_000)")
