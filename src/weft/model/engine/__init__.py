"""The local engine: one model file, many sequences that can be forked, trimmed, spliced, published, saved and pinned.

`protocol` says what every engine does; `local` is llama.cpp in a child process, and `host` what all generations of a
process share of it. `server` is the wheel's own HTTP server: what remains where the library is not the one that `abi`
knows.
"""

from __future__ import annotations

from weft.model.engine.host import Host, close_hosts, shared_host
from weft.model.engine.local import LocalEngine
from weft.model.engine.opening import close_shared, open_engine, shared_engine
from weft.model.engine.protocol import Engine, Feed, Sampling, Sequence, Told
from weft.model.engine.server import LlamaServer, close_servers, shared_server


def close_engines() -> None:
    """End every engine of this process. A later call starts what it needs."""
    close_hosts()
    close_shared()
    close_servers()


__all__ = [
    "Engine", "Feed", "Host", "LlamaServer", "LocalEngine", "Sampling", "Sequence", "Told", "close_engines",
    "close_hosts", "close_servers", "open_engine", "shared_engine", "shared_host", "shared_server",
]  # fmt: skip
