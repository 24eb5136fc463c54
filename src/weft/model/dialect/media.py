"""Images, sounds and documents on the wire: base64, data addresses, and names for what has none."""

from __future__ import annotations

import mimetypes
from base64 import b64decode, b64encode
from binascii import Error

from weft.core.content import Blob
from weft.core.errors import ModelError

_UNNAMED = "unnamed"


def base64_of(content: bytes) -> str:
    return b64encode(content).decode()


def bytes_of(text: str) -> bytes:
    """The other way. Raises ModelError if it is no base64."""
    try:
        return b64decode(text, validate=True)
    except (Error, ValueError) as error:
        raise ModelError(f"the provider sent {text[:40]!r} as base64, which it is not ({error})") from None


def data_url(blob: Blob) -> str:
    """The bytes as an address."""
    return f"data:{blob.mime_type};base64,{base64_of(blob.content)}"


def blob_at(url: str, name: str = "") -> Blob | None:
    """The bytes that a data address holds in base64; None for any other address."""
    kind, _, data = url.removeprefix("data:").partition(",")
    if not (url.startswith("data:") and kind.endswith(";base64")):
        return None
    return Blob.of(bytes_of(data), kind.removesuffix(";base64"), name)


def file_name(blob: Blob) -> str:
    """What a document is called; providers want a name with an ending."""
    return blob.name or _UNNAMED + (mimetypes.guess_extension(blob.mime_type) or "")


def name_of(file_name: str) -> str:
    """The other way."""
    return "" if file_name.partition(".")[0] == _UNNAMED else file_name


_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def image_type(content: bytes) -> str:
    """The MIME type that an image's first bytes tell."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in _MAGIC if content.startswith(magic)), "image/png")
