"""What a tool returned, as parts that a model can be shown: words, and images or documents.

A text is words as it is; numbers, dataclasses, models, lists and the like are JSON; bytes and images are images or
documents. Of what is too long the beginning and the end are shown, and the whole is kept (`weft.tool.output`).
"""

from __future__ import annotations

import base64
import json
from pathlib import PurePath
from typing import Any

import msgspec

from weft.core.content import Blob, Content, File, Text, Uri
from weft.core.crossing import crossing, executing
from weft.core.errors import size_text
from weft.core.plain import to_plain

LARGEST = 20_000_000
"""Bytes of an image or document that is shown."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"), (b"OggS", "audio/ogg"), (b"ID3", "audio/mpeg"), (b"fLaC", "audio/flac"),
)  # fmt: skip


def parts_of(value: Any, limit: int) -> tuple[Content, ...]:
    """The parts that show a value: nothing for None. At most `limit` characters of words."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (Text(content=shortened(value, limit)),)
    if isinstance(value, list | tuple) and any(_is_part(one) for one in value):
        found: list[Content] = []
        for one in value:
            shown = parts_of(one, limit)
            limit -= sum(len(part.content) for part in shown if isinstance(part, Text))
            found += shown
            limit = max(limit, 200)
        return tuple(found)
    if isinstance(value, Text):
        return (msgspec.structs.replace(value, content=shortened(value.content, limit)),)
    if isinstance(value, Blob):
        return (_fitting(value),)
    if isinstance(value, Uri | File):
        return (value,)
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(value), limit)
    if (drawn := _drawn(value)) is not None:
        return (_fitting(Blob.of(drawn, "image/png")),)
    return (Text(content=shortened(json_of(value), limit)),)


def shortened(text: str, limit: int) -> str:
    """The text, without what moves a terminal; if it is longer than `limit`, its beginning and end, and how to get at
    the rest, which is kept."""
    from weft.runtime.sandbox.streams import plain

    if len(text) > limit:
        text = _kept(text, limit)
    return plain(text)


def _kept(text: str, limit: int) -> str:
    """Its two ends. It is Weft that keeps the whole, not the tool whose step this is."""
    from weft.tool.output import keep

    here = crossing()
    token = executing.set(None if here is None else here.within(keep.needs, {}))
    try:
        shown: str = keep.fn(text, limit=limit).text
        return shown
    finally:
        executing.reset(token)


def json_of(value: Any) -> str:
    """A value as JSON, whatever it is: of what has no JSON form, its repr."""
    try:
        return msgspec.json.encode(value, enc_hook=_plainer).decode()
    except Exception:  # keys that are no texts, a cycle, code of its own that fails
        return json.dumps(to_plain(value, whole=True), ensure_ascii=False)


def _plainer(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()  # arrays and numbers of numpy and its like
    return to_plain(value, whole=True)


def _is_part(value: Any) -> bool:
    return isinstance(value, Text | Blob | Uri | File | bytes) or hasattr(value, "_repr_png_")


def _drawn(value: Any) -> bytes | None:
    """The picture of what draws itself, as images and figures do for notebooks."""
    if isinstance(value, type) or not hasattr(value, "_repr_png_"):
        return None
    drawn = value._repr_png_()
    if isinstance(drawn, str):
        drawn = base64.b64decode(drawn)
    return drawn if isinstance(drawn, bytes) else None


def _bytes(data: bytes, limit: int) -> tuple[Content, ...]:
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
    if kind is None and data[:4] == b"RIFF":
        kind = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12])
    if kind is None:
        try:
            return (Text(content=shortened(data.decode(), limit)),)
        except UnicodeDecodeError:
            kind = "application/octet-stream"
    return (_fitting(Blob.of(data, kind)),)


def _fitting(blob: Blob) -> Content:
    if len(blob.content) <= LARGEST:
        return blob
    name = f" {blob.name!r}" if blob.name else ""
    return Text(content=f"[{blob.mime_type}{name} of {size_text(len(blob.content))}: too large to be shown]")
