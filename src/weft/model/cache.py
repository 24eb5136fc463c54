"""Replies kept by what was asked: the same question to the same model need not be paid for twice.

    replies = Replies()                       # in the user's cache folder, or where $WEFT_CACHE says
    key = key_of(spec, request)
    replies.get(key) or replies.put(key, await ...)

A reply is one file, named by a hash of the model and of all that decides the generation; the question itself is not
kept. Files are whole or not there (written beside and renamed), checked when read, and the ones that were not used for
longest go when there are too many bytes. A reply that holds a known secret's value is not kept. Any number of processes
may use one folder, and whatever is wrong with it is a reply not found, never an error of the generation.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from weft.core.secret import Redactor
from weft.core.whole import write_whole
from weft.model.request import Reply, Request

log = logging.getLogger("weft.model")

MOST = 1 << 30
"""Bytes that a folder may hold."""
_MAGIC = b"weft-reply-1\n"
"""Another form of replies or of keys gets another number, and old files are not found by it."""
_CHECK = 16
_SHARE = 16
"""A process looks at the whole folder again when it has added one part in so many."""
_ABANDONED = 3600.0
"""Seconds after which a half-written file is nobody's."""


def replies_dir() -> Path:
    """The folder: `$WEFT_CACHE`, else `weft/replies` below `$XDG_CACHE_HOME` or `~/.cache`."""
    given = os.environ.get("WEFT_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "weft" / "replies"


def key_of(spec: str, request: Request) -> str:
    """The name of what is asked: equal for equal questions, whatever the order of keys in them. How long an answer may
    take is no part of the question."""
    asked = msgspec.structs.replace(request, timeout=0.0)
    canonical = msgspec.msgpack.encode((spec, asked), order="deterministic")
    return hashlib.sha256(_MAGIC + canonical).hexdigest()


class Replies:
    """The replies in a folder, of at most `most` bytes (and a sixteenth more for each process that adds some)."""

    def __init__(self, folder: Path | None = None, most: int = MOST) -> None:
        self.folder = folder or replies_dir()
        self.most = most
        self._added: int | None = None
        """Bytes since the folder was last looked at; None: it never was."""
        self._lock = threading.Lock()

    def get(self, key: str) -> Reply | None:
        """The reply kept under the key, or None."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        reply = _unsealed(data)
        with contextlib.suppress(OSError):
            if reply is None:
                path.unlink()
            else:
                os.utime(path)  # used now: it goes last
        return reply

    def put(self, key: str, reply: Reply) -> bool:
        """Keep a reply. Whether it is kept: not one that can't be written, holds a secret, or is too large."""
        path = self._path(key)
        try:
            data = _sealed(reply)
            if len(data) > self.most // _SHARE or Redactor().redact(data) is not None:
                return False
            write_whole(path, data)
            self._make_room(len(data))
        except (OSError, TypeError, ValueError, RecursionError) as error:  # the disk; values that have no such form
            log.warning("a reply was not kept in %s: %s", self.folder, error)
            return False
        return True

    def _path(self, key: str) -> Path:
        if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
            raise ValueError(f"{key!r} is no key of a reply; make it with key_of()")
        return self.folder / key[:2] / f"{key[2:]}.reply"

    def _make_room(self, added: int) -> None:
        """Delete what was not used for longest, if it is time to look."""
        with self._lock:
            self._added = None if self._added is None else self._added + added
            if self._added is not None and self._added < self.most // _SHARE:
                return
            self._added = 0
            files = sorted(self._files())
            size = sum(bytes for _, bytes, _ in files)
            for _, bytes, path in files:
                if size <= self.most:
                    return
                with contextlib.suppress(OSError):  # another process was quicker
                    path.unlink()
                size -= bytes

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Every reply: when it was last used, its bytes, its file. Deletes what a dead process left half-written."""
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                found = path.stat()
                if path.suffix == ".reply":
                    yield found.st_mtime_ns, found.st_size, path
                elif found.st_mtime < time.time() - _ABANDONED:
                    path.unlink()


def _sealed(reply: Reply) -> bytes:
    body = msgspec.msgpack.encode(reply)
    return _MAGIC + hashlib.blake2b(body, digest_size=_CHECK).digest() + body


def _unsealed(data: bytes) -> Reply | None:
    body = data[len(_MAGIC) + _CHECK :]
    if data != _MAGIC + hashlib.blake2b(body, digest_size=_CHECK).digest() + body:
        return None
    try:
        return msgspec.msgpack.decode(body, type=Reply)
    except (msgspec.MsgspecError, RecursionError):  # of another version of Weft
        return None
