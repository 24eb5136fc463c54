"""What was approved of each server: `.weft/mcp.lock`, a digest of every tool's description and schema.

A model reads a tool's description as an instruction. So a server that changes one, or adds a tool, after it was looked
at (a "rug pull") is not followed until somebody has looked again. The file is in the workspace's `.weft`, which no job
in a sandbox sees; with it lies the text that was approved, so that the difference can be shown.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.core.whole import write_whole

AROUND = 60
"""Characters that are shown of each side of a difference."""


class Offer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool as a server offers it, made fit to be shown. `hints`: what the server says that it does
    (`readOnlyHint` ...), which nobody has to believe. `digest`: of all that it said, as it said it."""

    name: str
    description: str = ""
    schema: dict[str, Any] = {}
    hints: dict[str, bool] = {}
    digest: str = ""


def digest_of(said: Any) -> str:
    """Of a value in JSON types, whatever the order of its keys."""
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _Pin(msgspec.Struct, omit_defaults=True):
    digest: str
    description: str = ""
    schema: dict[str, Any] = {}


class _Lock(msgspec.Struct, omit_defaults=True):
    version: int = 1
    servers: dict[str, dict[str, _Pin]] = {}


def known(workspace: str, server: str) -> bool:
    """Whether anything of this server was ever approved."""
    return server in _read(_path(workspace)).servers


def changes(workspace: str, server: str, offers: Sequence[Offer]) -> list[str]:
    """How these differ from what was approved, a line each."""
    pins = _read(_path(workspace)).servers.get(server, {})
    return [line for offer in offers for line in _difference(offer, pins.get(offer.name))]


def _difference(offer: Offer, pin: _Pin | None) -> Iterator[str]:
    if pin is None:
        yield f"a new tool {offer.name!r}: {_short(offer.description)!r}"
    elif pin.digest != offer.digest:
        if pin.description != offer.description:
            before, after = _parted(pin.description, offer.description)
            yield f"another description of {offer.name!r}: it said {before!r}, it says {after!r}"
        elif pin.schema != offer.schema:
            yield f"other arguments of {offer.name!r}"
        else:
            yield f"another result, or other hints, of {offer.name!r}"


def _parted(before: str, after: str) -> tuple[str, str]:
    """From shortly before where they part."""
    alike = next((at for at, (one, two) in enumerate(zip(before, after, strict=False)) if one != two), 0)
    start = max(0, alike - AROUND // 3)
    return _short(before[start:]), _short(after[start:])


def _short(text: str) -> str:
    return text if len(text) <= 2 * AROUND else f"{text[:AROUND]} ... {text[-AROUND:]}"


def approve(workspace: str, server: str, offers: Sequence[Offer]) -> None:
    """These are right, from now on. What was approved before and is not among them stays approved as it was."""
    path = _path(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        lock = _read(path)
        pins = lock.servers.setdefault(server, {})
        for offer in offers:
            pins[offer.name] = _Pin(offer.digest, offer.description, offer.schema)
        lock.servers[server] = dict(sorted(pins.items()))
        lock.servers = dict(sorted(lock.servers.items()))
        _write(path, lock)


def forget(workspace: str, server: str) -> bool:
    """Nothing of this server is approved any more. Whether anything was."""
    path = _path(workspace)
    if not path.exists():
        return False
    with _alone(path):
        lock = _read(path)
        if lock.servers.pop(server, None) is None:
            return False
        _write(path, lock)
        return True


def _path(workspace: str) -> Path:
    return Path(workspace) / ".weft" / "mcp.lock"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else changes it meanwhile."""
    with path.with_suffix(".lock-held").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _write(path: Path, lock: _Lock) -> None:
    write_whole(path, msgspec.json.format(msgspec.json.encode(lock), indent=1) + b"\n", mode=0o644)


def _read(path: Path) -> _Lock:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Lock)
    except FileNotFoundError:
        return _Lock()
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(f"{path}, which says what was approved of MCP servers, can't be read: {error}") from None
