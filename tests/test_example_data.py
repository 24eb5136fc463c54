"""The example `analyse_data`: programs that compute the answer, by a form or by an agent, and read one file only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_monty", reason="programs run in the embedded Python of weft[sandbox]")
EXAMPLE = Path(__file__).parent.parent / "examples" / "analyse_data.py"
sys.path.insert(0, str(EXAMPLE.parent))

from analyse_data import Analysis, analyse_data, describe, named, parsed  # noqa: E402

import weft  # noqa: E402
from tests.programs import drive  # noqa: E402
from weft.core.errors import BadInput  # noqa: E402
from weft.model import Request, script  # noqa: E402
from weft.tool import ToolCall  # noqa: E402

SALES = """\
region,product,unit price,units,note
North,Tea,2.5,10,
South,Tea,3,4,late
North,Coffee,4,7,
East,Coffee,5.5,,
"""
POLICY = weft.Policy(base="program", allow=("read:./sales.*", "model:script/data", "tool:describe", "tool:rows"))


@pytest.fixture
def sales(workspace: Path) -> Path:
    (workspace / "sales.csv").write_text(SALES)
    return workspace


def asked(folder: Path, question: str, data: str = "sales.csv", **options: Any) -> Analysis:
    store = str(folder.parent / "journal.db")
    found: Analysis = drive(
        store, lambda r: r.run(analyse_data, data, question, "script:data", **options), policy=POLICY
    )
    return found


def refuses(request: Request) -> Any:
    raise AssertionError(f"the question said it all, and the model was asked {request.messages[-1].text!r}")


@pytest.mark.parametrize(
    ("question", "lines"),
    [
        ("What is the average unit price by region?",
         ["average of 'unit price' by 'region'", "East   5.5", "North  3.25", "South  3"]),
        ("Total units of each product?", ["total of 'units' by 'product'", "Tea     14", "Coffee  7"]),
        ("What is the highest unit price?", ["largest of 'unit price'", "all  5.5"]),
        ("How many units?", ["total of 'units'", "all  21"]),
        ("How many rows are there?", ["count of 'region'", "all  4"]),
    ],
)  # fmt: skip
def test_what_the_question_says_needs_no_model(sales: Path, question: str, lines: list[str]) -> None:
    script(refuses, name="data")
    found = asked(sales, question, agent=False)
    assert found.answer.split("\n") == lines and "await rows('sales.csv'" in found.program


def test_what_it_leaves_open_the_model_chooses_and_the_answer_says_so(sales: Path) -> None:
    def choose(request: Request) -> str:
        return '"total"' if "measure" in request.messages[0].text else '"units"'

    script(choose, name="data")
    found = asked(sales, "What do all orders come to?", agent=False)
    assert found.answer == "total of 'units' (the model guessed the measure and the column)\nall  21"


def test_an_agent_writes_programs_and_the_last_one_is_shown(sales: Path) -> None:
    program = "found = await rows('sales.csv', ['units'])\nsum(row['units'] or 0 for row in found)"

    def analyse(request: Request) -> Any:
        results = [result for message in request.messages for result in message.results]
        match len(results):
            case 0:
                return ToolCall(id="a", name="describe", arguments={"path": "sales.csv"})
            case 1:
                assert json.loads(results[0].text)["rows"] == 4
                return ToolCall(id="b", name="run_program", arguments={"program": "await row('sales.csv')"})
            case 2:
                assert results[1].error and "row" in results[1].text
                return ToolCall(id="c", name="run_program", arguments={"program": program})
        return f"{results[2].text} units."

    script(analyse, name="data")
    assert asked(sales, "How many units?") == Analysis("21.0 units.", program)


def test_a_program_reads_no_other_file(sales: Path) -> None:
    (sales / "salaries.csv").write_text("name,pay\nAnn,1\n")

    def curious(request: Request) -> Any:
        results = [result for message in request.messages for result in message.results]
        stolen = "await rows('salaries.csv')"
        return results[0].text if results else ToolCall(id="a", name="run_program", arguments={"program": stolen})

    script(curious, name="data")
    found = asked(sales, "What does Ann earn?").answer
    assert "not allowed" in found and "salaries.csv" in found


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", "a;b\n1;x\n;y\n", [{"a": 1.0, "b": "x"}, {"a": None, "b": "y"}]),
        ("a.csv", "a,b\n1e3,-0.5\n1.2.3,12 May\n", [{"a": 1000.0, "b": -0.5}, {"a": "1.2.3", "b": "12 May"}]),
        ("a.json", '[{"a": 1}, {"b": "x"}]', [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("a.csv", "", []),
    ],
)
def test_files_are_rows(name: str, text: str, rows: list[dict[str, Any]]) -> None:
    assert parsed(text, name) == rows


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", '{"a": 1}', "no list of objects"),
        ("a.json", "[1]", "no list of objects"),
        ("a.json", "[", "Expecting"),
    ],
)
def test_what_is_no_table_is_told(name: str, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parsed(text, name)


def test_a_file_without_numbers_has_no_average(sales: Path) -> None:
    (sales / "sales.words.csv").write_text("a,b\nx,y\nz,w\n")
    with pytest.raises(BadInput, match="no column of numbers to take the average of"):
        asked(sales, "What is the average?", "sales.words.csv", agent=False)


def test_names_of_columns_are_found_in_questions() -> None:
    assert named("Average of unit prices per region?", ["unitPrice", "Region", "price_list"]) == ["unitPrice", "Region"]


def test_the_columns_are_told(sales: Path) -> None:
    @weft.workflow(name="example.described")
    async def described() -> Any:
        return await describe("sales.csv")

    table = drive(str(sales.parent / "j.db"), lambda r: r.run(described), policy=POLICY)
    assert table["columns"][3] == {"name": "units", "kind": "number", "filled": 3, "different": 3,
                                   "examples": [10.0, 4.0, 7.0]}  # fmt: skip


def test_the_embedded_model_fills_in_what_the_question_leaves_open(sales: Path) -> None:
    """Whether it chooses well is not asked: that it chooses among what there is, and that the answer says so."""
    store = str(sales.parent / "journal.db")
    allowed = weft.Policy(base="program", allow=("read:./sales.csv", "model:local/*", "tool:describe", "tool:rows"))
    found = drive(store, lambda r: r.run(analyse_data, "sales.csv", "How dear is it, by region?"), policy=allowed)
    assert "by 'region' (the model guessed the measure" in found.answer.split("\n")[0]
    assert {line.split()[0] for line in found.answer.split("\n")[1:]} <= {"North", "South", "East"}
