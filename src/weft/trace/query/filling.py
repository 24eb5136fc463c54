"""Filling the tables from journals: each process is read once, its rows go through files of JSON lines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.codec import decode_plain
from weft.core.record import Outcome, Started, from_column
from weft.store.base import FINISHED, ProcessRow, Store, bytes_of
from weft.trace.export.content import kind_of_part
from weft.trace.export.genai import family
from weft.trace.query.tables import TABLES
from weft.trace.reading import Node, error_text, read_with_records

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_encode = msgspec.json.Encoder().encode
Row = dict[str, Any]


async def fill(
    store: Store, connection: DuckDBPyConnection, names: set[str], scratch: Path, run: str | None = None
) -> None:
    """Fill these tables of `connection` with what the journals say: of all, or of one process and all below it."""
    with ExitStack() as stack:
        files = {name: stack.enter_context((scratch / f"{name}.jsonl").open("wb")) for name in sorted(names)}
        async for row, root in _processes(store, run):
            if "runs" in files:
                files["runs"].write(_encode(await _run(store, row, root)) + b"\n")
            if files.keys() - {"runs"}:
                over = row.updated if row.state in FINISHED else None
                async for node, record in read_with_records(store, row.id, over=over):
                    for name, made in await _rows(store, node, record, files.keys()):
                        files[name].write(_encode(made) + b"\n")
    for name in files:
        _load(connection, name, scratch / f"{name}.jsonl")


def _load(connection: DuckDBPyConnection, name: str, path: Path) -> None:
    columns = TABLES[name]
    plain = {key: "double" if kind == "timestamptz" else kind for key, kind in columns.items()}
    shape = ", ".join(f"{key}: '{kind}'" for key, kind in plain.items())
    chosen = ", ".join(f"to_timestamp({key})" if columns[key] == "timestamptz" else f'"{key}"' for key in columns)
    largest = "maximum_object_size = 1073741824"
    connection.execute(
        f"insert into {name} select {chosen} from read_json('{path}', format = 'newline_delimited', "
        f"columns = {{{shape}}}, {largest})"
    )


async def _processes(store: Store, run: str | None) -> AsyncIterator[tuple[ProcessRow, str]]:
    """Each process with its root."""
    if run is not None:
        async for row in family(store, run):
            yield row, run
        return
    after = 0
    while families := await store.families(after):
        after = families[-1].at
        for one in families:
            ids = list(one.sizes)
            rows = {row.id: row for row in await store.rows(ids=ids, limit=len(ids))}
            for id in ids:
                if id in rows:
                    yield rows[id], ids[0]


# --- rows of each table -------------------------------------------------------------------------------------------


async def _run(store: Store, row: ProcessRow, root: str) -> Row:
    async def plain(column: bytes | None) -> Any:
        return None if column is None else decode_plain(await bytes_of(store, from_column(column)))

    error = None if row.error is None else error_text(await bytes_of(store, from_column(row.error)))
    told = {key: getattr(row, key) for key in TABLES["runs"] if hasattr(row, key)}
    return told | {
        "run": row.id, "root": root, "started": row.started or None, "records": row.length, "error": error,
        "seconds": row.updated - row.started if row.started else 0.0,
        "input": await plain(row.input), "result": await plain(row.result),
    }  # fmt: skip


async def _rows(store: Store, node: Node, record: Outcome | Started, wanted: Iterable[str]) -> list[tuple[str, Row]]:
    found = [("effects", _effect(node))] if "effects" in wanted else []
    makers: dict[str, Callable[[Node, Any, Any], Iterable[Row]]] = {"bodies": _body}
    if node.kind == "generation":
        makers |= {"generations": _generation, "messages": _messages}
    elif node.kind == "tool":
        makers["tool_calls"] = _tool_call
    if asked := [name for name in makers if name in wanted]:
        args = decode_plain(await bytes_of(store, record.args))
        value = decode_plain(await bytes_of(store, record.value)) if type(record) is Outcome else None
        at = {"run": node.run, "effect": node.effect}
        found += [(name, at | made) for name in asked for made in makers[name](node, args, value)]
    return found


def _effect(node: Node) -> Row:
    told = {key: getattr(node, key) for key in TABLES["effects"] if hasattr(node, key)}
    used = node.usage
    told["cpu_seconds"] = used.cpu_seconds if used is not None else None
    told["memory_peak"] = used.memory_peak if used is not None else None
    return told | {"error": node.error or None, "child": node.child or None}


def _body(node: Node, args: Any, value: Any) -> Iterator[Row]:
    yield {"arguments": args, "value": value}


def _timed(node: Node) -> Row:
    return {key: getattr(node, key) for key in ("status", "started", "seconds", "money", "attempts")} | {
        "error": node.error or None
    }


def _asked(args: Any) -> tuple[str, Row]:
    """The spec and the request of a generation, as far as it has them."""
    given = args["*"] if isinstance(args, dict) and "*" in args else args
    items = given if isinstance(given, list) else []
    request = items[1] if len(items) > 1 and isinstance(items[1], dict) else {}
    return str(items[0]) if items else "", request


def _generation(node: Node, args: Any, value: Any) -> Iterator[Row]:
    spec, request = _asked(args)
    reply = value if isinstance(value, dict) and node.status == "ok" else {}
    usage = reply.get("usage") if isinstance(reply.get("usage"), dict) else {}
    counted = {key: usage.get(key) for key in ("cache_read", "cache_write", "reasoning")}  # type: ignore[union-attr]
    message = reply.get("message")
    yield {
        "spec": spec, "model": node.model or None, "input_tokens": node.input_tokens,
        "output_tokens": node.output_tokens, "finish": reply.get("finish"), "cached": reply.get("cached"),
        "temperature": request.get("temperature"), "messages": len(request.get("messages") or ()),
        "tools": len(request.get("tools") or ()),
        "answer": _text(message.get("parts", ())) if isinstance(message, dict) else None,
        **counted, **_timed(node),
    }  # fmt: skip


def _tool_call(node: Node, args: Any, value: Any) -> Iterator[Row]:
    named = args["**"] if isinstance(args, dict) and args.keys() == {"*", "**"} and not args["*"] else args
    told = isinstance(value, dict) and value.get("type") == "tool_call_response"
    failed = told and value.get("error")
    row = {"tool": node.name, "call": value.get("id") if told else None, "arguments": named, **_timed(node)}
    row["result"] = _text(value.get("response", ())) if told else _words(value)
    yield row | ({"status": "failed", "error": row["result"]} if failed else {})


def _messages(node: Node, args: Any, value: Any) -> Iterator[Row]:
    messages = [one for one in _asked(args)[1].get("messages") or () if isinstance(one, dict)]
    answers = [place for place, one in enumerate(messages) if one.get("role") == "assistant"]
    new = messages[answers[-1] + 1 :] if answers else messages
    if isinstance(value, dict) and isinstance(value.get("message"), dict):
        new.append(value["message"])
    place = 0
    for message in new:
        for part in message.get("parts", ()):
            if isinstance(part, Mapping):
                yield {"place": place, "role": message.get("role"), **_part(part)}
                place += 1


def _part(part: Mapping[str, Any]) -> Row:
    kind = str(part.get("type") or kind_of_part(part))
    content = part.get("content", part.get("arguments", part.get("uri")))
    if kind == "tool_call_response":
        content = _text(part.get("response") or ())
    called = kind in ("tool_call", "tool_call_response")
    return {
        "kind": kind, "content": _words(content), "tool": part.get("name") if called else None,
        "call": part.get("id") if called else None,
    }  # fmt: skip


def _text(parts: Any) -> str:
    """The words of the parts of a message or a result."""
    each = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list | tuple) else []
    texts = [part for part in each if (part.get("type") or kind_of_part(part)) == "text"]
    return "".join(str(part.get("content", "")) for part in texts) if each else _words(parts) or ""


def _words(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
