"""Typed patterns: what a capability's text means for files, hosts, commands and names.

Each kind has a stored form of its patterns (`stored`), a matcher of it (`compiled`) and a reading of what a request
is about (`subject`). A matcher has two ways to match: `allows` is exact, `catches` (denies, asks) errs on the side
of the deny. Both sides say where to file and to look (`key`, `keys`; `wide_key`, `wide_keys`), so that an authority
of a thousand capabilities looks at a few.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from weft.core.pattern.name import compiled_name, name_pattern, name_subject
from weft.core.pattern.net import compiled_net, net_pattern, net_resource, net_subject, url_resource
from weft.core.pattern.path import compiled_file, file_pattern, file_subject, real_path
from weft.core.pattern.shell import compiled_shell, shell_pattern, shell_resource, shell_subject

__all__ = [
    "Kind",
    "Matcher",
    "Subject",
    "compiled",
    "net_resource",
    "real_path",
    "shell_resource",
    "stored",
    "subject",
    "url_resource",
]

Kind = Literal["file", "net", "shell", "name"]


class Subject(Protocol):
    """What a request is about."""

    @property
    def keys(self) -> list[str]:
        """Where allows that may match are filed."""

    @property
    def wide_keys(self) -> list[str]:
        """Where denies and asks that may match are filed."""

    @property
    def everywhere(self) -> bool:
        """Whether every deny and ask must be looked at, wherever it is filed."""


class Matcher(Protocol):
    """A compiled pattern."""

    @property
    def key(self) -> str:
        """Where it is filed as an allow."""

    @property
    def wide_key(self) -> str:
        """Where it is filed as a deny or ask."""

    def allows(self, subject: Any) -> bool:
        """Whether it matches exactly."""

    def catches(self, subject: Any) -> bool:
        """Whether it matches in any spelling, or below, or around it."""


class _Everything:
    key = wide_key = ""

    def allows(self, subject: Any) -> bool:
        return True

    def catches(self, subject: Any) -> bool:
        return True


_EVERYTHING = _Everything()
_COMPILED: dict[Kind, Callable[[str], Matcher]] = {
    "file": compiled_file,
    "net": compiled_net,
    "shell": compiled_shell,
    "name": compiled_name,
}
_SUBJECTS: dict[Kind, Callable[[str], Subject | None]] = {
    "file": file_subject,
    "net": net_subject,
    "shell": shell_subject,
    "name": name_subject,
}


def stored(kind: Kind, text: str, workspace: str | Path) -> str:
    """The stored form of what a user wrote. Raises BadInput, which says what is wrong with it."""
    if kind == "file":
        return file_pattern(text, workspace)
    if kind == "shell":
        return shell_pattern(text, workspace)
    return net_pattern(text) if kind == "net" else name_pattern(text)


def compiled(kind: Kind, pattern: str) -> Matcher:
    """The matcher of a stored pattern; `**` is everything of every kind."""
    return _EVERYTHING if pattern == "**" else _COMPILED[kind](pattern)


def subject(kind: Kind, resource: str) -> Subject | None:
    """What a request is about; None if the resource is not in its kind's normal form, and so allowed to nobody."""
    return _SUBJECTS[kind](resource)
