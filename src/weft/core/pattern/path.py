"""Paths: what a path really names, and patterns of files.

`./docs` means it and everything below it, `./docs/.` the folder alone, `./docs/*.md` the files in it,
`./src/**/test_*.py` those at any depth. The kernel says what a path names; what it says is what is compared, and what
must then be opened.
"""

from __future__ import annotations

import errno
import os
import sys
from functools import lru_cache
from pathlib import Path

from weft.core.errors import BadInput
from weft.core.pattern.text import check_stars, checked, escape, literal
from weft.core.pattern.tree import TreePattern, TreeSubject

_PROC = sys.platform == "linux"


def real_path(path: str | os.PathLike[str], workspace: str | os.PathLike[str]) -> str:
    """The absolute path of what `path` names, seen from `workspace`, through all symlinks and `..`; of what does
    not exist, the path it would be created at (through a dangling symlink: its target).

    Raises BadInput for names with NUL or lone surrogates, for symlinks in a circle, and for what is not in the
    file system (a pipe reached through /proc). Open the path returned, not the one given: a symlink may change.
    """
    text = checked(os.fspath(path), "the path")
    whole = text if text[0] == "/" else f"{os.fspath(workspace)}/{text}"
    return known_path(whole) or _new(whole)


def known_path(whole: str) -> str | None:
    """The kernel's name for what exists, else None. Raises BadInput as `real_path` does."""
    if not _PROC:
        return os.path.realpath(whole) if os.path.exists(whole) else None  # noqa: PTH110
    try:
        handle = os.open(whole, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadInput(f"the path {whole!r} goes through symlinks in a circle") from None
        if error.errno == errno.ENAMETOOLONG:
            raise BadInput(f"the path {whole!r} is too long for a file name") from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise
    try:
        name = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
        if name.endswith(" (deleted)") and os.fstat(handle).st_nlink == 0:
            return None
    except FileNotFoundError:  # no /proc here
        name = os.path.realpath(whole)
    finally:
        os.close(handle)
    if name[0] != "/":
        raise BadInput(f"the path {whole!r} names {name!r}, which is not in the file system")
    return name if name.isascii() else checked(name, "the file name")


def _new(whole: str) -> str:
    """Where something that does not exist would be created."""
    folder, _, name = whole.rpartition("/")
    if name not in ("", ".", ".."):
        try:
            os.readlink(whole)  # noqa: PTH115
        except OSError:
            if found := known_path(folder or "/"):
                return f"{found.rstrip('/')}/{name}"
    found = checked(os.path.realpath(whole), "the file name")
    if found.endswith(" (deleted)") and not whole.endswith(" (deleted)"):
        raise BadInput(f"the path {whole!r} names a file that was deleted")
    return found


def file_pattern(text: str, workspace: str | Path) -> str:
    """The pattern as it is stored: absolute, the part before its first wildcard resolved as `real_path` does.
    Raises BadInput if it cannot be one."""
    checked(text, "the file pattern")
    if text in ("*", "**"):
        raise BadInput(f"the file pattern {text!r} is unclear: write ./** for the workspace, / for every file")
    if text == "~" or text.startswith("~/"):
        text = escape(str(Path.home())) + text[1:]
    whole = text if text[0] == "/" else f"{escape(os.fspath(workspace))}/{text}"
    itself = text.endswith("/.") and text != "/."
    known, rest = [], [part for part in whole.split("/") if part not in ("", ".")]
    while rest and (plain := literal(rest[0])) is not None:
        known.append(plain)
        rest.pop(0)
    if ".." in rest:
        raise BadInput(f"the file pattern {text!r} has '..' after a wildcard: what it means would depend on the match")
    check_stars(rest, text)
    prefix = real_path("/" + "/".join(known), "/")
    while rest and rest[-1] == "**" and (len(rest) == 1 or rest[-2] == "**"):
        rest.pop()  # ./docs/** is ./docs
    if itself and (rest or prefix == "/"):
        raise BadInput(f"the file pattern {text!r}: '/.' after a folder's name means the folder without what is in it")
    rest += ["."] * itself
    stored = "/".join([*map(escape, prefix.rstrip("/").split("/")), *rest]) or "/"
    compiled_file(stored).compile()
    return stored


@lru_cache(maxsize=65536)
def compiled_file(stored: str) -> TreePattern:
    """The matcher of a stored file pattern. Raises BadInput if it is not absolute."""
    if stored[:1] != "/":
        raise BadInput(f"the file pattern {stored!r} is not absolute: make capabilities with weft's `parse`")
    return TreePattern([part for part in stored.split("/") if part], subtree=True)


def file_subject(resource: str) -> TreeSubject | None:
    """What a request for this path is about; None if the path is not in the normal form of `real_path`."""
    if resource[:1] != "/" or "\0" in resource:
        return None
    if resource == "/":
        return TreeSubject("")
    if (
        "//" in resource
        or resource[-1] == "/"
        or ("/." in resource and not {".", ".."}.isdisjoint(resource.split("/")))
    ):
        return None
    return TreeSubject(resource)
