"""A run seen in a terminal: graph, timeline, tree, difference, lines that follow it, the progress of one under way."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator

import pytest

from tests.terminal import WEFT, Terminal

PROGRAM = """
import asyncio
import weft

@weft.step
async def add(x: int) -> int:
    await asyncio.sleep(0.02)
    return x + 1

@weft.step
async def fail(x: int) -> int:
    raise ValueError("no <such> thing")

@weft.workflow
async def below(x: int) -> int:
    return await add(x)

@weft.workflow
async def main(x: int) -> int:
    await asyncio.gather(add(1), add(2))
    try:
        await fail(x)
    except ValueError:
        pass
    if x > 5:
        await add(100)
    return await below(x)

@weft.workflow
async def slow() -> None:
    for number in range(15):
        await asyncio.gather(add(number), below(number))
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("see"), PROGRAM)
    yield terminal
    terminal.close()


@pytest.fixture(scope="module")
def runs(here: Terminal) -> list[str]:
    """The same workflow with one input twice, and with another."""
    return [here.json("run", "shop.py:main", "-A", "-i", f"x={x}")["run"] for x in (1, 1, 9)]


def test_a_run_as_graph_timeline_and_tree(here: Terminal, runs: list[str]) -> None:
    graph = here("show", runs[0], "--graph")
    assert "critical path" in graph and "6 effects" in graph and "#3 shop.fail" in graph
    tree = here("show", runs[0], "--tree")
    assert "✗ #3 shop.fail" in tree and "ValueError: no <such> thing" in tree and "shop.below" in tree
    assert "━" in here("show", runs[0], "--timeline")
    plain = here.json("show", runs[0], "--graph")
    assert plain["metrics"]["nodes"] == len(plain["vertices"]) == 6 and plain["metrics"]["failed"] == 1
    assert {"source", "target", "kind"} == set(plain["edges"][0])
    nodes = here.json("show", runs[0], "--tree")
    assert [node["kind"] for node in nodes][:2] == ["process", "step"] and nodes[3]["status"] == "failed"


def test_a_graph_for_other_tools(here: Terminal, runs: list[str]) -> None:
    assert here("show", runs[0], "--graph", "--as", "dot").startswith("digraph")
    assert here("show", runs[0], "--graph", "--as", "mermaid").startswith("flowchart TD")
    assert here("show", runs[0], "--graph", "--as", "svg").startswith("<svg ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--graph", "--tree"), "one of"), (("--as", "svg"), "goes with --graph"),
        (("--tree", "--as", "dot"), "goes with --graph"), (("--graph", "--as", "png"), "png"),
    ],
    ids=["two views", "no view", "tree as dot", "no such form"],
)  # fmt: skip
def test_bad_words_are_refused(here: Terminal, runs: list[str], words: tuple[str, ...], says: str) -> None:
    assert says in here("show", runs[0], *words, code=2)


def test_the_difference_of_two_runs(here: Terminal, runs: list[str]) -> None:
    assert "the runs are equal: 6 effects" in here("diff", runs[0], runs[1])
    found = here.json("diff", runs[0], runs[2], code=1)
    assert found["first"]["what"] == ["input"] and ["added"] in [change["what"] for change in found["changes"]]
    said = here("diff", runs[0], runs[2], code=1)
    assert "added" in said and "the first:" in said
    assert "no run 'zzz'" in here("diff", runs[0], "zzz", code=3)


def test_graphs_of_many_runs_and_their_template(here: Terminal, runs: list[str]) -> None:
    found = here.json("trace", "graphs", *runs, "--template", "shop.py:main")
    assert found["variation"]["runs"] == 3 and found["variation"]["distinct"] == 2
    assert found["variation"]["covered"] == 3 and found["variation"]["coverage"] == 1
    assert found["template"]["determined"] == "running" and found["template"]["plasticity"] == "select"
    said = here("trace", "graphs", "shop.main", "--template", "shop.py:main")
    assert "in 33% of the runs" in said and "3, with 2 distinct graphs" in said
    assert "optional" in here("trace", "template", "shop.py:main")
    assert here("trace", "template", "shop.py:main", "--as", "svg").startswith("<svg ")
    assert "no workflow" in here("trace", "template", "shop.py:nothing", code=2)


def test_lines_of_a_run(here: Terminal, runs: list[str]) -> None:
    lines = here("logs", runs[0]).splitlines()
    assert any("✗ #3 shop.fail(1)" in line for line in lines) and lines[-1].endswith("end: done")
    assert any("[" in line and "shop.add(1) → 2" in line for line in lines)  # the child's
    records = [json.loads(line) for line in here("logs", runs[0], "--json").splitlines()]
    assert {record["process"] for record in records} > {runs[0]}
    assert "no run 'zzz'" in here("logs", "zzz", code=3)


def test_lines_follow_a_run_to_its_end(here: Terminal) -> None:
    child, run = here.begin("run", "shop.py:slow", "-A")
    followed = here("logs", run, "--follow")
    assert child.wait(timeout=60) == 0
    assert followed.splitlines()[-1].endswith("end: done")
    assert followed.count("shop.add(") == 30 and followed.count("end: done") == 16


def test_progress_is_a_tree_on_a_terminal_and_plain_elsewhere(here: Terminal) -> None:
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [WEFT, "run", "shop.py:slow", "-A"],
        cwd=here.folder,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=here.environment,
    )
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        said += part
    assert child.wait(timeout=60) == 0
    os.close(master)
    text = said.decode(errors="replace")
    assert "shop.slow" in text and "├──" in text and "running" in text and "done" in text
    plain, _ = here.begin("run", "shop.py:slow", "-A")
    plain.wait(timeout=60)
    assert "├──" not in here.said() and "\x1b" not in here.said() and "done in" in here.said()
