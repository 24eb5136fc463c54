"""The local engine: one model file, many sequences that can be forked, trimmed, spliced, published, saved and pinned.

`protocol` says what every engine does; `server` is llama.cpp's own HTTP server, the face that chats go through.
"""

from __future__ import annotations

from weft.model.engine.protocol import Engine, Feed, Sampling, Sequence, Told
from weft.model.engine.server import LlamaServer, close_servers, shared_server


def close_engines() -> None:
    """End every engine of this process. A later call starts what it needs."""
    close_servers()


__all__ = [
    "Engine", "Feed", "LlamaServer", "Sampling", "Sequence", "Told", "close_engines", "close_servers", "shared_server",
]  # fmt: skip
