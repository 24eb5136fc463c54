"""Ask a data file a question: a program is written that computes the answer, checked, and run where it can do no harm.

    weft run examples/analyse_data.py --input data=sales.csv --input question="Average price by region?"
    python examples/analyse_data.py sales.csv "Which region grew most in March?" --model anthropic:claude-sonnet-5

No figure is the model's word: each is what a program computed from the rows, and the program is shown, to be read. It
runs in the embedded Python and can call `rows`, which may read this one file, and nothing else. A model that can
use tools looks at the columns and writes programs until one tells what was asked. The embedded model can't write
programs, so it fills in a form (what of which column, by which other) from which the program is made: what the
question names itself is taken from it, and only where that leaves a choice the model makes it. What no such form can
say is then answered wrong, or not at all: read what was computed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import weft
from weft.agent import Agent, RunProgram
from weft.agent.program import perform
from weft.core.content import ToolCall
from weft.core.errors import BadInput
from weft.model import Classifier, Model
from weft.model.spec import where
from weft.tool import Toolset, files, tool

PAGE, GROUPS = 2000, 50
"""Rows that one call gives; values that a column to group by has at most."""
MEASURES = {
    "count": r"how many|number of|count|how often",
    "average": r"average|mean|typical|usual",
    "total": r"total|sum|altogether|in all|overall",
    "largest": r"largest|highest|biggest|most|max(imum)?|longest|top",
    "smallest": r"smallest|lowest|least|min(imum)?|shortest|cheapest",
}
EXAMPLES = [
    ("What do the orders come to?", "total"), ("How much does one cost as a rule?", "average"),
    ("What is the peak temperature?", "largest"), ("How frequent are visits?", "count"),
    ("What is the earliest year?", "smallest"),
]  # fmt: skip
PROGRAM = """\
# {measure} of {column!r}{grouped}{guessed}
groups = {{}}
start = 0
while True:
    page = await rows({path!r}, {columns!r}, start)
    for row in page:
        value = row[{column!r}]
        if value is not None:
            groups.setdefault({key}, []).append(value)
    start += len(page)
    if len(page) < {page}:
        break
{{key: {reduced} for key, values in groups.items()}}
"""
REDUCED = {"count": "len(values)", "average": "sum(values) / len(values)", "total": "sum(values)",
           "largest": "max(values)", "smallest": "min(values)"}  # fmt: skip


class Column(TypedDict):
    name: str
    kind: Literal["number", "text"]
    filled: int
    different: int
    examples: list[Any]


class Table(TypedDict):
    rows: int
    columns: list[Column]


@dataclass
class Analysis:
    """`program`: what computed it; empty if no program was run."""

    answer: str
    program: str


# --- the data ---------------------------------------------------------------------------------------------------------


def parsed(text: str, path: str) -> list[dict[str, Any]]:
    """The rows of CSV with a first line of names, of JSON (a list of objects), or of JSON lines. Numbers are numbers,
    and an empty cell is None. Raises ValueError."""
    if path.endswith((".json", ".jsonl")):
        loaded = json.loads(text) if path.endswith(".json") else [json.loads(one) for one in text.splitlines() if one]
        if not isinstance(loaded, list) or not all(isinstance(row, dict) for row in loaded):
            raise ValueError(f"{path} is no list of objects: give such a file, JSON lines, or CSV")
        names = dict.fromkeys(name for row in loaded for name in row)
        return [{name: row.get(name) for name in names} for row in loaded]
    sniffed = csv.Sniffer().sniff(text[:10_000], ",;\t|") if text.strip() else csv.excel
    reader = csv.DictReader(io.StringIO(text), dialect=sniffed)
    return [{name: number(cell) for name, cell in row.items() if name is not None} for row in reader]


def number(cell: str | None) -> str | float | None:
    """A cell as what it is."""
    if cell is None or not cell.strip():
        return None
    return float(cell) if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", cell) else cell


@tool(effect="pure", needs="read:{path}")
async def describe(path: str) -> Table:
    """What a data file has: how many rows, and its columns with some of their values.

    Args:
        path: A file of CSV, JSON or JSON lines.
    """
    data = parsed(await files.read_text(path), path)
    columns: list[Column] = []
    for name in data[0] if data else ():
        values = [row[name] for row in data if row[name] is not None]
        kind: Literal["number", "text"] = "number" if all(isinstance(v, int | float) for v in values) else "text"
        seen = list({str(value): value for value in values}.values())
        columns.append(Column(name=name, kind=kind, filled=len(values), different=len(seen), examples=seen[:5]))
    return Table(rows=len(data), columns=columns)


@tool(effect="pure", needs="read:{path}", limit=1_000_000)
async def rows(path: str, columns: list[str] | None = None, start: int = 0, count: int = PAGE) -> list[dict[str, Any]]:
    """Rows of a data file, in their order; an empty cell is None. Fewer than `count` come at the end.

    Args:
        path: A file of CSV, JSON or JSON lines.
        columns: Those that are wanted; all if left out.
        start: How many rows are passed over.
        count: How many are wanted, 2000 at most.
    """
    data = parsed(await files.read_text(path), path)[start : start + min(count, PAGE)]
    return [{name: row[name] for name in columns or row} for row in data]


# --- a program by the embedded model ----------------------------------------------------------------------------------


class Form:
    """The choices that make a program. `guessed`: those that the model made, for the question did not say."""

    def __init__(self, mind: Model, question: str) -> None:
        self.mind, self.question, self.guessed = mind, question, list[str]()

    async def choose(self, what: str, names: list[str], examples: Sequence[tuple[str, str]] = ()) -> str:
        """One of the names: the only one, or the model's choice."""
        if len(names) == 1:
            return names[0]
        self.guessed.append(what)
        system = f"Which {what} is the question about? Answer with one of: {', '.join(names)}."
        return await Classifier(self.mind, names, system=system, examples=examples, form="Question: {}")(self.question)


def named(question: str, names: list[str]) -> list[str]:
    """Those of the names whose words the question has, in the plural too; not those that are a part of another."""
    asked = set(words(question))
    found = {name: set(words(name)) for name in names if set(words(name)) <= asked}
    return [name for name, its in found.items() if its and not any(its < other for other in found.values())]


def words(text: str) -> list[str]:
    """Small letters, without the ending of a plural; `unitPrice` and `unit_price` are two words."""
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return [word.lower().removesuffix("s") for word in re.findall(r"[^\W_]+", split)]


async def written(mind: Model, question: str, path: str, table: Table) -> str:
    """The program that the filled-in form is. Raises BadInput where there is nothing to choose from."""
    form = Form(mind, question)
    numbers = [one["name"] for one in table["columns"] if one["kind"] == "number" and one["filled"]]
    groups = [one["name"] for one in table["columns"] if one["kind"] == "text" and one["different"] <= GROUPS]
    by = named(question, groups)
    told = [name for name, pattern in MEASURES.items() if re.search(rf"\b({pattern})\b", question.lower())]
    measure = await form.choose("measure", told[:1] or list(MEASURES), EXAMPLES)
    columns = named(question, numbers) or numbers
    if measure == "count" and named(question, numbers):
        measure = "total"  # how many units: their sum, and not how many rows
    elif measure == "count":
        columns = [one["name"] for one in sorted(table["columns"], key=lambda one: -one["filled"])[:1]]
    if not columns:
        raise BadInput(f"{path} has no column of numbers to take the {measure} of")
    column = await form.choose("column", columns)
    key = await form.choose("group", by) if by else ""
    return PROGRAM.format(
        measure=measure,
        column=column,
        grouped=f" by {key!r}" if key else "",
        guessed=f" (the model guessed the {' and the '.join(form.guessed)})" if form.guessed else "",
        path=path,
        columns=list(dict.fromkeys([column, *([key] if key else [])])),
        key=f"str(row[{key!r}])" if key else "'all'",
        page=PAGE,
        reduced=REDUCED[measure],
    )


# --- answers ----------------------------------------------------------------------------------------------------------


def analyst(model: str, data: str) -> Agent[str]:
    """Writes programs until one tells what was asked."""
    return Agent(
        model,
        name="analyst",
        instructions=f"You answer questions about the data file {data!r}. Look at its columns, then write programs "
        "that compute what is asked. Every figure that you tell must be one that a program printed. If the data "
        "does not tell, say so.",
        tools=[describe, RunProgram(rows)],
        turns=10,
    )


@weft.workflow
async def analyse_data(
    data: str, question: str, model: str = weft.model.DEFAULT, agent: bool | None = None
) -> Analysis:
    """What the file `data` says about it. `agent`: whether the model writes the programs itself; if it is not embedded,
    if nothing is said."""
    mind = Model(model)
    if not mind.embedded if agent is None else agent:
        answer = await analyst(model, data).conversation().say(question)
        calls = [part for message in answer.messages for part in message.parts if isinstance(part, ToolCall)]
        programs = [call.arguments for call in calls if call.name == "run_program"]
        last = programs[-1] if programs else {}
        return Analysis(answer.output, str(last.get("program", "")) if isinstance(last, dict) else str(last))
    program = await written(mind, question, data, await describe(data))
    value: dict[str, Any] = (await perform(program, Toolset(rows))).value
    order = sorted(value, key=lambda key: (-value[key] if isinstance(value[key], int | float) else 0.0, key))
    width = max(map(len, value), default=0)
    lines = [f"{key:<{width}}  {value[key]:.10g}" for key in order]
    return Analysis("\n".join([program.partition("\n")[0].removeprefix("# "), *(lines or ["no values"])]), program)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer a question about a data file, by a program.")
    parser.add_argument("data", help="a file of CSV, JSON (a list of objects) or JSON lines")
    parser.add_argument("question")
    parser.add_argument("--model", default=weft.model.DEFAULT, help="a model's spec")
    given = vars(parser.parse_args())
    given["data"] = data = str(Path(given["data"]).expanduser().absolute())
    try:
        # Whoever names them on the command line allows them.
        with weft.grant(f"read:'{data}'", f"model:{where(given['model']).resource}", "tool:describe", "tool:rows"):
            found = weft.run(analyse_data, **given)
    except (weft.WeftError, OSError, ValueError) as error:
        sys.exit(f"analyse_data: {error}")
    print(found.answer)
    if found.program:
        print(f"\nComputed by:\n\n{found.program}")


if __name__ == "__main__":
    main()
