"""The rules of `.gitignore` files: which names below a folder git leaves out, and so does a search.

After gitignore(5): the last rule that matches decides; `!` takes back; a slash at the end means folders only; one
elsewhere ties the rule to the folder of its file, and without one it is about names at any depth; deeper files go
first. What is in an ignored folder is not looked at. Rules are matched in linear time, however they were written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from weft.core.errors import BadInput
from weft.core.pattern.text import glob, nfc

LARGEST = 1_000_000
"""Bytes of a file of rules that are read."""
_PART = re.compile(r"\\(.)|(\[[!^]?\]?[^\]/]*\])|(.)", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """One line. `fits` matches paths seen from the folder of its file."""

    fits: re.Pattern[str]
    ignores: bool
    folders: bool
    """It is about folders only."""


def rules(lines: Iterable[str]) -> list[Rule]:
    """The rules of a file, the last one first; what is no rule is passed over."""
    found = [rule for line in lines if (rule := _rule(line)) is not None]
    return found[::-1]


def _rule(line: str) -> Rule | None:
    line = line.removesuffix("\n").removesuffix("\r")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    ignores = not line.startswith("!")
    body = line if ignores else line[1:]
    if not body or line.startswith("#") or re.search(r"(?<!\\)(?:\\\\)*\\\Z", body):
        return None
    folders = body.endswith("/")
    body = body.removesuffix("/")
    tied = "/" in body
    parts = [_plain(part) for part in body.removeprefix("/").split("/")]
    if not any(parts):
        return None
    if not tied:
        parts = ["**", *parts]
    if parts[-1] == "**":
        parts += ["*"]  # what is in the folder, not the folder
    try:
        return Rule(glob(parts), ignores, folders)
    except BadInput:
        return None


def _plain(part: str) -> str:
    """A part in which what was behind a backslash stands in brackets."""
    if part == "**":
        return part

    def one(found: re.Match[str]) -> str:
        escaped, kind, letter = found.groups()
        if escaped is not None:
            return f"[{escaped}]" if escaped in "*?[" else escaped
        return str(kind or letter)

    return _PART.sub(one, part)


class Ignored:
    """What the file of rules of a folder says, and then those of the folders above it."""

    def __init__(self, above: Ignored | None, folder: str, found: list[Rule]) -> None:
        self.above = above
        self.rules = found
        self._begin = len(folder.rstrip("/")) + 1

    def __call__(self, path: str, folder: bool) -> bool:
        """Whether the file, or the folder, at this real path is left out."""
        here: Ignored | None = self
        while here is not None:
            seen = nfc(path[here._begin :])
            for rule in here.rules:
                if (folder or not rule.folders) and rule.fits.fullmatch(seen):
                    return rule.ignores
            here = here.above
        return False
