"""What of the workspace a sandboxed command sees, and what of its changes is carried back: only what its process may
read, and only where it may write."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from weft.core.capability import Request
from weft.core.crossing import crossing, further, workspace
from weft.core.errors import BadInput, Denied
from weft.core.pattern import real_path
from weft.core.resources import Resources, resources_of
from weft.core.secret import Secret
from weft.runtime.governor.learn import settled
from weft.runtime.sandbox import Finished

DEFAULT = Resources(memory="1G", pids=128, seconds=60, disk="1G")
"""What a command may take if neither its step nor its caller says anything."""
MOST = 1000
"""Changes that are told one by one."""


@dataclass(frozen=True)
class Changed:
    """A file or folder that a command changed. `size`: bytes afterwards."""

    path: str
    kind: Literal["added", "changed", "removed"]
    size: int = 0


def words_of(argv: Any, what: str) -> list[str]:
    """The command as a list of texts. Raises BadInput."""
    if isinstance(argv, str | bytes) or not all(isinstance(word, str | Path) for word in argv):
        raise BadInput(f"{what}({argv!r}): give a list of texts, such as ['git', 'status']; no shell reads it")
    if not argv:
        raise BadInput(f"{what}([]): the list is empty; give a command and its arguments")
    return [str(word) for word in argv]


def needs(
    words: Sequence[str], env: Mapping[str, str | Secret] | None, read: Collection[Any], write: Collection[Any] = ()
) -> Iterator[tuple[str, Any]]:
    """The rights to run it, to read all that it sees, and to write what it may change."""
    if env:
        words = ["env", *(f"{name}={value}" for name, value in env.items()), *words]
    yield "sandbox.run", [*words]
    for place in (*read, *write):
        yield "file.read", str(place)
    for place in write:
        yield "file.write", str(place)
    for value in (env or {}).values():
        if isinstance(value, Secret):
            yield "secret.open", value.name


def real_places(said: Sequence[str | Path]) -> list[str]:
    """The folders that these paths mean, which were authorised. Raises Denied if one means another by now."""
    here = crossing()
    authorised = {one.resource for one in here.requests if one.action == "file.read"} if here is not None else set()
    found = [real_path(str(place), workspace()) for place in said]
    for place in found:
        if authorised and place not in authorised:
            raise Denied("file.read", place, "a link was put into the path after it was allowed", "try again")
    return found


def seen() -> Callable[[Path], bool] | None:
    """Whether the process may read a path; None outside of any."""
    here = crossing()
    return None if here is None else lambda path: here.may(Request("file.read", str(path)))


def environment(given: Mapping[str, str | Secret] | None) -> dict[str, str]:
    """PATH, with this Python's own programs first, and what is given."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    told = {name: value.reveal() if isinstance(value, Secret) else str(value) for name, value in (given or {}).items()}
    return {"PATH": path, **told}


def within(words: list[str], folder: str) -> list[str]:
    """A program of the workspace by its way from the folder: inside, a copy may lie elsewhere."""
    if "/" not in words[0] or words[0].startswith("/"):
        return words
    return ["./" + os.path.relpath(real_path(words[0], workspace()), folder), *words[1:]]


def limits(asked: Mapping[str, Any] | Resources | None, seconds: float | None = None) -> Resources:
    """What a command may take: what its caller asks for, no more than its step declares; the default."""
    here = crossing()
    hinted = resources_of(asked) or Resources()
    if seconds is not None:
        hinted = msgspec.structs.replace(hinted, seconds=seconds)
    return settled(here.resources if here is not None else None, hinted, default=DEFAULT)


def changes_of(done: Finished) -> list[Changed]:
    """What it did to its copies, as far as that is told one by one."""
    return [Changed(str(one.path), one.kind, one.size) for one in done.changes[:MOST]]


def carry_over(done: Finished, write: Sequence[str]) -> list[Changed]:
    """Take the changes in these folders, if each may be made; else none. Raises Denied and ChangedMeanwhile."""
    wanted = [one for one in done.changes if any(one.path.is_relative_to(place) for place in write)]
    for one in wanted:
        action = "file.delete" if one.kind == "removed" else "file.write"
        further(action, str(one.path), "nothing was carried over: run it so that it leaves this path alone")
    if wanted:
        done.take(*(one.path for one in wanted))
    return [Changed(str(one.path), one.kind, one.size) for one in wanted[:MOST]]


def shell() -> str:
    """The shell that stays."""
    return shutil.which("bash", path=os.defpath) or "/bin/sh"
