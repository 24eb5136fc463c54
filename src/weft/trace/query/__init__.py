"""Questions in SQL about what runs did, answered by DuckDB from tables that are made of the journals.

    answer = await ask(store, "select name, count(*), sum(money) from effects group by name")
    answer.columns, answer.rows

Only tables that a question names are filled, from the journals of all runs or of one family; nothing is kept, and the
store is only read. The question sees nothing else: no files, no network, no extensions. Needs the extra `query`.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from weft.core.errors import BadInput, MissingExtra
from weft.store.base import Store
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
        connection = _opened(Path(scratch), into)
        try:
            named = _named(connection, question)
            await fill(store, connection, named, Path(scratch), run)
            return _answer(connection, question, into)
        finally:
            connection.close()


def _opened(scratch: Path, into: Path | None) -> DuckDBPyConnection:
    """A database of its own, with empty tables, that reaches the scratch folder and the answer's file."""
    duckdb = _library()
    connection: DuckDBPyConnection = duckdb.connect(":memory:", config={"temp_directory": str(scratch / "spilled")})
    for name, columns in TABLES.items():
        shape = ", ".join(f'"{key}" {kind}' for key, kind in columns.items())
        connection.execute(f"create table {name} ({shape})")
    connection.execute(f"set allowed_directories = [{_quoted(scratch)}]")
    if into is not None:
        connection.execute(f"set allowed_paths = [{_quoted(into.absolute())}]")
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


def _answer(connection: DuckDBPyConnection, question: str, into: Path | None) -> Answer:
    duckdb = _library()
    try:
        if into is not None:
            done = connection.execute(f"copy ({question.strip().rstrip(';')}) to {_quoted(into)} {FORMS[into.suffix]}")
            written = done.fetchone()
            return Answer([], [], written[0] if written else 0)
        found = connection.execute(question)
        rows = found.fetchall()
        return Answer([column[0] for column in found.description or ()], rows, len(rows))
    except duckdb.Error as error:
        raise BadInput(_said(error)) from None


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
