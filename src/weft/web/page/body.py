"""Values as clients get them: in full where they are small, else their beginning and where the whole is.

A sealed value stays sealed: only its label is told, here as everywhere.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from weft.core.codec import decode_plain
from weft.core.record import Blob, Value, from_column
from weft.core.sealed import SEAL
from weft.store.base import Store, bytes_of
from weft.web.page.answer import Refused, answer

SMALL = 64 * 1024
"""Bytes of a value that is told at once."""
LARGEST = 16 * 1024 * 1024
"""Bytes of one that is told at all."""
BEGINNING = 4_000
"""Characters that are told of one that is not small."""


async def body(store: Store, value: Value | None, href: str) -> dict[str, Any] | None:
    """A value of a journal."""
    if value is None:
        return None
    size = value.size if isinstance(value, Blob) else len(value)
    told: dict[str, Any] = {"value": None, "bytes": size, "cut": size > SMALL, "sealed": False}
    if size > LARGEST:
        return {**told, "text": "", "href": None}
    data = await bytes_of(store, value)
    plain = decode_plain(data)
    told["sealed"] = SEAL in data
    if size <= SMALL:
        return {**told, "value": plain}
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, indent=1)
    return {**told, "text": text[:BEGINNING], "href": href}


async def column(store: Store, data: bytes | None, href: str) -> dict[str, Any] | None:
    """A value of a process's row."""
    return None if data is None else await body(store, from_column(data), href)


async def in_full(store: Store, value: Value) -> Response:
    """A value as JSON, whole."""
    size = value.size if isinstance(value, Blob) else len(value)
    if size > LARGEST:
        raise Refused(413, "too_large", f"this value has {size:,} bytes; read it with `weft export`")
    data = await bytes_of(store, value)
    return answer(decode_plain(data))


async def plain_of(store: Store, value: Value) -> Any:
    """A value in JSON types; None for one that is too large to be told."""
    if isinstance(value, Blob):
        return decode_plain(await store.payload(value.hash)) if value.size <= LARGEST else None
    return decode_plain(value)


def shortened(value: Any) -> Any:
    """JSON whose long texts are cut; an object that holds one says so."""
    if isinstance(value, str):
        return value if len(value) <= SMALL else value[:SMALL]
    if isinstance(value, list):
        return [shortened(one) for one in value]
    if isinstance(value, dict):
        cut = any(isinstance(one, str) and len(one) > SMALL for one in value.values())
        return {key: shortened(one) for key, one in value.items()} | ({"cut": True} if cut else {})
    return value
