"""Questions in SQL about what runs did, answered by DuckDB from tables that are made of the journals.

    answer = await ask(store, "select name, count(*), sum(money) from effects group by name")
    answer.columns, answer.rows

Only tables that a question names are filled, from the journals of all runs or of one family; nothing is kept, and the
store is only read. The question sees nothing else: no files, no network, no extensions. Needs the extra `query`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from weft.core.errors import BadInput, MissingExtra
from weft.store.base import Store
from weft.trace.export.files import written
from weft.trace.query.filling import fill
from weft.trace.query.tables import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["TABLES", "Answer", "ask"]

FORMS = {".parquet": "(format parquet)", ".csv": "(format csv, header)", ".json": "(format json)"}


class Answer(NamedTuple):
    """The columns' names, and the rows; none where they went into a file. `size`: how many there were."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    size: int


async def ask(store: Store, question: str, *, run: str | None = None, into: Path | None = None) -> Answer:
    """Answer one `select`. `run`: only of this process and those below it. `into`: write the answer there, as
    `.parquet`, `.csv` or `.json` (lines). Raises BadInput for what is no such question, MissingExtra."""
    if into is not None and into.suffix not in FORMS:
        raise BadInput(f"{into} is neither .parquet, .csv nor .json, so what to write is unknown")
    with tempfile.TemporaryDirectory(prefix="weft-query-") as scratch:
        connection = _opened(Path(scratch))
        try:
            named = _named(connection, question)
            await fill(store, connection, named, Path(scratch), run)
            if into is None:
                return _answered(connection, question)
            return Answer([], [], _written(connection, question, Path(scratch) / f"answer{into.suffix}", into))
        finally:
            connection.close()


def _opened(scratch: Path) -> DuckDBPyConnection:
    """A database of its own, with empty tables, that reaches the scratch folder and nothing else."""
    duckdb = _library()
    connection: DuckDBPyConnection = duckdb.connect(":memory:", config={"temp_directory": str(scratch / "spilled")})
    for name, columns in TABLES.items():
        shape = ", ".join(f'"{key}" {kind}' for key, kind in columns.items())
        connection.execute(f"create table {name} ({shape})")
    connection.execute(f"set allowed_directories = [{_quoted(scratch)}]")
    for setting in ("enable_external_access = false", "TimeZone = 'UTC'", "lock_configuration = true"):
        connection.execute(f"set {setting}")
    return connection


def _named(connection: DuckDBPyConnection, question: str) -> set[str]:
    """The tables whose names stand in a question, be it as other words. Raises BadInput if it is not one question."""
    duckdb = _library()
    try:
        statements = connection.extract_statements(question)
    except duckdb.Error as error:
        raise BadInput(_said(error)) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise BadInput("a query is one select: tables are made of the journals, and nothing is written to them")
    return {*re.findall(r"\w+", question.lower())} & TABLES.keys()


def _answered(connection: DuckDBPyConnection, question: str) -> Answer:
    duckdb = _library()
    try:
        found = connection.execute(question)
        rows = found.fetchall()
    except duckdb.Error as error:
        raise BadInput(_said(error)) from None
    return Answer([column[0] for column in found.description or ()], rows, len(rows))


def _written(connection: DuckDBPyConnection, question: str, beside: Path, into: Path) -> int:
    """Write the answer into a file; returns how many rows it has."""
    duckdb = _library()
    try:
        asked = question.strip().rstrip(";")
        done = connection.execute(f"copy ({asked}) to {_quoted(beside)} {FORMS[into.suffix]}").fetchone()
    except duckdb.Error as error:
        raise BadInput(_said(error)) from None
    with beside.open("rb") as made, written(into) as out:
        shutil.copyfileobj(made, out)
    return int(done[0]) if done else 0


def _said(error: Exception) -> str:
    """DuckDB's words, which show the place; and the tables, if it looked for another one."""
    text = str(error).strip()
    hint = f"\nThere are the tables {', '.join(TABLES)}; `weft query` lists their columns." if "Table" in text else ""
    return f"the query can't be answered: {text}{hint}"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _library() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("queries need the extra `query`: pip install 'weft[query]'") from error
    return duckdb
