"""Questions in SQL about journals: what the tables hold, how answers are given, and what may not be asked."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests import told
from weft.cli.app import app
from weft.core.errors import BadInput
from weft.store import open_store

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'weft[query]'")

from weft.trace.query import TABLES, ask


def answered(place: str, question: str, **more: Any) -> Any:
    async def go() -> Any:
        store = open_store(place)
        try:
            return await ask(store, question, **more)
        finally:
            await store.close()

    return asyncio.run(go())


def rows(place: str, question: str, **more: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = answered(place, question, **more).rows
    return found


def weft_(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_each_table_tells_of_a_run(store: str) -> None:
    id = told.run(store, 3)
    assert rows(store, "select workflow, state, parent = root, parent is null from runs order by created") == [
        ("told.main", "done", None, True),
        ("told.agent", "done", True, False),
    ]
    counted = dict(
        rows(store, "select kind, count(*) from effects where kind not in ('clock', 'random') group by kind")
    )
    assert counted == {"sleep": 1, "step": 4, "spawn": 1, "child": 1, "generation": 2, "tool": 1}
    assert rows(store, "select name, error from effects where status = 'failed'") == [
        ("tests.told.told_broken", "ValueError: it <broke> & fell")
    ]
    generated = "select spec, model, input_tokens, output_tokens, cache_read, finish, tools, answer from generations"
    assert rows(store, f"{generated} order by started") == [
        ("script:told", "demo-1", 10, 5, 3, "tool_call", 1, "Let me look."),
        ("script:told", "demo-1", 20, 2, 0, "stop", 1, "Shakespeare"),
    ]
    assert rows(store, "select tool, call, arguments->>'query', result, status from tool_calls") == [
        ("told_search", "c1", "Hamlet", "found Hamlet, call 555-0100", "ok")
    ]
    assert rows(store, "select role, kind, content, tool from messages order by run, effect, place") == [
        ("system", "text", "Be brief.", None),
        ("user", "text", "Who wrote Hamlet?", None),
        ("assistant", "text", "Let me look.", None),
        ("assistant", "tool_call", '{"query": "Hamlet"}', "told_search"),
        ("tool", "tool_call_response", "found Hamlet, call 555-0100", "told_search"),
        ("assistant", "text", "Shakespeare", None),
    ]
    adding = "select value::int from bodies join effects using (run, effect) where name like '%told_add' order by 1"
    assert [value for (value,) in rows(store, adding)] == [1, 2, 3]
    assert rows(store, "select count(*) from effects where seconds < 0 or started > ended") == [(0,)]
    assert rows(store, f"select root from runs where root <> '{id}'") == []


def test_a_question_may_be_about_one_run(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    told.run(place)
    second = told.run(place, 5)
    assert rows(place, "select count(*) from runs") == [(4,)]
    assert rows(place, "select count(*) from effects where name like '%told_add'", run=second) == [(5,)]


def test_large_values_and_failed_tools_are_there(tmp_path: Path) -> None:
    import weft
    from weft.core.content import ToolCall
    from weft.tool.declare import tool

    @tool(effect="pure")
    def query_large(n: int) -> str:
        return "x" * n

    @weft.workflow(name="query.large")
    async def flow() -> int:
        await query_large.call(ToolCall(id="a", name="query_large", arguments={"n": 20_000}))
        return len((await query_large.call(ToolCall(id="b", name="query_large", arguments={"n": -1}))).text)

    place = str(tmp_path / "journal.db")

    async def go() -> None:
        async with weft.Runtime(place) as runtime:
            await runtime.run(flow)

    asyncio.run(go())
    assert rows(place, "select call, length(result) >= 5000 from tool_calls order by call") == [
        ("a", True),
        ("b", False),
    ]


def test_answers_are_printed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told.run("journal.db")
    place = ("--store", "journal.db")
    asked = (
        "select name, count(*) n, max(ended) as ended_at from effects where kind = 'step' group by name order by name"
    )
    found = json.loads(weft_("query", asked, "--json", *place).stdout)
    assert [(one["name"], one["n"]) for one in found] == [("tests.told.told_add", 2), ("tests.told.told_broken", 1)]
    assert found[0]["ended_at"].endswith("+00:00")
    (head, first, _) = csv.reader(weft_("query", asked, "--csv", *place).stdout.splitlines())
    assert head == ["name", "n", "ended_at"] and first[:2] == ["tests.told.told_add", "2"]
    assert "tests.told.told_add" in weft_("query", asked, *place).stdout
    for name in ("a.parquet", "a.csv", "a.json"):
        assert "2 rows in" in weft_("query", f"{asked};", "-o", name, *place).stdout
        assert "2 rows in" in weft_("query", asked, "-o", name, *place).stdout
    import duckdb

    for name in ("a.parquet", "a.csv", "a.json"):
        assert duckdb.sql(f"select name, n from '{name}'").fetchall() == [(one["name"], one["n"]) for one in found]


def test_the_tables_are_told_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = weft_("query")
    assert done.exit_code == 0 and done.stdout.startswith("runs: run, workflow")
    assert json.loads(weft_("query", "--json").stdout) == TABLES
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("drop table runs", "one select"),
        ("select 1; select 2", "one select"),
        ("insert into runs (run) values ('x')", "one select"),
        ("copy (select 1) to 'x.csv'", "one select"),
        ("attach 'x.db'", "one select"),
        ("", "one select"),
        ("selec 1", "syntax error"),
        ("select nothing from runs", "nothing"),
        ("select * from nowhere", "There are the tables runs, effects"),
        ("select * from '/etc/passwd'", "can't be answered"),
        ("select * from read_csv('/etc/passwd')", "can't be answered"),
        ("select getenv('HOME')", "can't be answered"),
        ("select 1/0 + 'x'::int", "can't be answered"),
    ],
    ids=[
        "drop",
        "two",
        "insert",
        "copy",
        "attach",
        "empty",
        "syntax",
        "column",
        "table",
        "file",
        "reading",
        "env",
        "error",
    ],
)
def test_what_is_no_question_is_refused(question: str, why: str, tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    told.run(place, 0)
    with pytest.raises(BadInput) as error:
        answered(place, question)
    assert why in str(error.value)


def test_an_answer_goes_only_where_it_was_to_go(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    told.run(place, 0)
    with pytest.raises(BadInput):
        answered(place, "select 1) to '/tmp/x.csv' (format csv); copy (select 1", into=tmp_path / "a.csv")
    with pytest.raises(BadInput, match=r"neither \.parquet"):
        answered(place, "select 1", into=tmp_path / "a.xlsx")
    with pytest.raises(BadInput):
        answered(place, "select 1", into=tmp_path / "no folder" / "a.csv")
    assert weft_("query", "select 1", "--run", "nobody", "--store", place).exit_code == 3
