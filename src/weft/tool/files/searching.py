"""Searching the lines of files below a folder: only those that the process may read, and in the order of their paths.

    found = await files.search(r"def \\w+_total", "src", glob="*.py", context=2)
    print(found.shown)

Left out, and counted where somebody may miss them: what may not be read, what is no text, what is too large. Hidden
names, and what `.gitignore` files name, are not looked at unless `everything` is asked for. No symlink is followed.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from weft.core.crossing import authorised, may, workspace
from weft.core.errors import BadInput, Denied
from weft.core.step import primitive
from weft.tool.files import opening
from weft.tool.files.ignore import LARGEST as MOST_RULES
from weft.tool.files.ignore import Ignored, Rule, rules
from weft.tool.matching import Found, Look, TimeOver, searched

LARGEST = 20_000_000
"""Bytes of the largest file that is searched."""
DEEPEST = 60
"""Folders within folders that are looked into."""
_RULES = ".gitignore"
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@primitive(name="files.search", effect="pure", needs="read:{folder}")
def search(
    pattern: str,
    folder: str | Path = ".",
    *,
    glob: str | Sequence[str] = (),
    literal: bool = False,
    case: bool = True,
    context: int = 0,
    limit: int = 100,
    seconds: float = 10.0,
    everything: bool = False,
) -> Found:
    """The lines below a folder (or of one file) that a regular expression matches, Python's, or a `literal` text; at
    most `limit` of them, each with `context` lines around it. After `seconds`, what was found is the answer.

    `glob`: patterns of the files to be searched, as in a .gitignore file: `*.py` at any depth, `/src/**/*.py` below a
    folder; `!test_*` leaves out. Raises BadInput for what is no pattern; Denied, and OSErrors as all of these do."""
    look = Look(pattern, literal, case, context, limit, seconds)
    wanted = _Wanted([glob] if isinstance(glob, str) else [*glob])
    left_out: Counter[str] = Counter()
    walk = _Walk(wanted, everything, left_out, time.monotonic() + seconds)
    return searched(look, walk.of(authorised("file.read", folder)), left_out)


class _Wanted:
    """Which files are to be searched."""

    def __init__(self, globs: list[str]) -> None:
        for one in globs:
            if not isinstance(one, str) or len(rules([one])) != 1:
                raise BadInput(f"glob={one!r} is no pattern of files: give such as '*.py', '/src/**', '!test_*'")
        found = rules(globs)
        self.only = [rule for rule in found if rule.ignores]
        self.never = [rule for rule in found if not rule.ignores]

    def __call__(self, path: str) -> bool:
        return (not self.only or _fits(self.only, path)) and not _fits(self.never, path)


def _fits(found: list[Rule], path: str) -> bool:
    """Whether a rule is about this file, or about a folder that it is in."""
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        part = "/".join(parts[:depth])
        if any(rule.fits.fullmatch(part) and (depth < len(parts) or not rule.folders) for rule in found):
            return True
    return False


class _Walk:
    """Files below a folder, opened one after the other, until the time is over."""

    def __init__(self, wanted: _Wanted, everything: bool, left_out: Counter[str], until: float) -> None:
        self.wanted = wanted
        self.everything = everything
        self.left_out = left_out
        self.until = until

    def of(self, real: str) -> Iterator[tuple[str, BinaryIO]]:
        """Those below this folder, by their path seen from it; or that file itself."""
        if real != "/":
            with opening.inode("file.read", real) as (_, info):
                kind = info.st_mode
            if not stat.S_ISDIR(kind):
                with opening.reading(real) as file:
                    yield real.rpartition("/")[2], file
                return
        with opening.listing(real) as handle:
            yield from self._below(handle, real, "", self._above(real))

    def _below(self, handle: int, real: str, before: str, ignored: Ignored | None) -> Iterator[tuple[str, BinaryIO]]:
        with os.scandir(handle) as entries:
            found = sorted(entries, key=lambda item: item.name)
        if any(item.name == _RULES for item in found):
            ignored = self._with_rules(handle, real, ignored)
        for item in found:
            if time.monotonic() > self.until:
                raise TimeOver
            path, place = before + item.name, f"{real.rstrip('/')}/{item.name}"
            folder = item.is_dir(follow_symlinks=False)
            if not self.everything and (item.name.startswith(".") or (ignored and ignored(place, folder))):
                continue
            if folder:
                yield from self._folder(handle, item.name, place, path, ignored)
            elif item.is_file(follow_symlinks=False) and self.wanted(path):
                yield from self._file(handle, item.name, place, path)

    def _folder(
        self, handle: int, name: str, place: str, path: str, ignored: Ignored | None
    ) -> Iterator[tuple[str, BinaryIO]]:
        if path.count("/") >= DEEPEST:
            self.left_out["too deep"] += 1
            return
        with self._opened(handle, name, place, opening.LISTED) as below:
            if below is not None:
                yield from self._below(below, place, f"{path}/", ignored)

    def _file(self, handle: int, name: str, place: str, path: str) -> Iterator[tuple[str, BinaryIO]]:
        with self._opened(handle, name, place, _OPEN) as opened:
            info = os.fstat(opened) if opened is not None else None
            if opened is None or info is None:
                return
            if info.st_size > LARGEST or not stat.S_ISREG(info.st_mode):
                self.left_out["too large" if stat.S_ISREG(info.st_mode) else "unreadable"] += 1
                return
            with os.fdopen(opened, "rb", closefd=False) as file:
                yield path, file

    @contextmanager
    def _opened(self, handle: int, name: str, place: str, flags: int) -> Iterator[int | None]:
        """What an open folder has by this name, if it may be read; None, and it is counted, if not."""
        opened = None
        try:
            name.encode()
            if not may("file.read", place):
                self.left_out["denied"] += 1
            else:
                opened = os.open(name, flags, dir_fd=handle)
        except (OSError, BadInput, UnicodeEncodeError):  # gone, a symlink by now, not for this user, or a name in bytes
            self.left_out["unreadable"] += 1
        try:
            yield opened
        finally:
            if opened is not None:
                os.close(opened)

    def _above(self, real: str) -> Ignored | None:
        """The rules of the folders above this one, up to the workspace."""
        top, found = os.path.realpath(workspace()), None
        parts = real.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth]) or "/"
            if folder == top or folder.startswith(f"{top.rstrip('/')}/"):
                with suppress(OSError, Denied), opening.listing(folder) as handle:
                    if opening.look(handle, _RULES) is not None:
                        found = self._with_rules(handle, folder, found)
        return found

    def _with_rules(self, handle: int, real: str, above: Ignored | None) -> Ignored | None:
        """With those of this folder's `.gitignore`, if it may be read."""
        place = f"{real.rstrip('/')}/{_RULES}"
        if self.everything or not may("file.read", place):
            return above
        with suppress(OSError):
            opened = os.open(_RULES, _OPEN, dir_fd=handle)
            with os.fdopen(opened, "rb") as file:
                if stat.S_ISREG(os.fstat(opened).st_mode):
                    lines = file.read(MOST_RULES).decode("utf-8", "replace").split("\n")
                    return Ignored(above, real, rules(lines))
        return above
