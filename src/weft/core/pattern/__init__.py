"""Typed patterns: what a capability's text means for files, hosts, commands and names.

Each kind has a stored form of its patterns (`stored`), a matcher of it (`compiled`) and a reading of what a request
is about (`subject`). A matcher has two ways to match: `allows` is exact, `catches` (denies, asks) errs on the side
of the deny. Both sides say where to file and to look (`key`, `keys`; `wide_key`, `wide_keys`), so that an authority
of a thousand capabilities looks at a few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

from weft.core.pattern.name import compiled_name, name_pattern, name_subject
from weft.core.pattern.net import compiled_net, net_pattern, net_resource, net_subject, url_resource
from weft.core.pattern.path import compiled_file, file_pattern, file_subject, real_path
from weft.core.pattern.shell import compiled_shell, pattern_of, shell_pattern, shell_resource, shell_subject, split
from weft.core.pattern.text import escape
from weft.core.pattern.tree import Cut

__all__ = [
    "EVERYTHING",
    "Kind",
    "Matcher",
    "Subject",
    "compiled",
    "cover",
    "exact",
    "net_resource",
    "overlap",
    "real_path",
    "shell_resource",
    "stored",
    "subject",
    "url_resource",
]

Kind = Literal["file", "net", "shell", "name"]

EVERYTHING = "**"
"""The pattern of every resource of every kind."""


class Subject(Protocol):
    """What a request is about."""

    @property
    def keys(self) -> list[str]:
        """Where allows that may match are filed."""

    @property
    def wide_keys(self) -> list[str]:
        """Where denies and asks that may match are filed."""

    def cut(self, cuts: Iterable[Cut]) -> list[str]:
        """Further such places, of globs that begin or end with a text."""

    def wide_cut(self, cuts: Iterable[Cut]) -> list[str]:
        """The same for denies and asks."""

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

    @property
    def key_cut(self) -> Cut | None:
        """If it is filed under a piece of a component: which."""

    @property
    def wide_key_cut(self) -> Cut | None:
        """The same as a deny or ask."""

    def allows(self, subject: Any) -> bool:
        """Whether it matches exactly."""

    def catches(self, subject: Any) -> bool:
        """Whether it matches in any spelling, or below, or around it."""

    def overlaps(self, other: Any) -> bool:
        """Whether something may match both it and the other pattern of its kind."""

    def covers(self, other: Any) -> bool:
        """Whether all that matches the other surely matches it."""


class _Everything:
    key = wide_key = ""
    key_cut = wide_key_cut = None

    def allows(self, subject: Any) -> bool:
        return True

    def catches(self, subject: Any) -> bool:
        return True

    def overlaps(self, other: Any) -> bool:
        return True

    def covers(self, other: Any) -> bool:
        return True


_ANY = _Everything()
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
    return _ANY if pattern == EVERYTHING else _COMPILED[kind](pattern)


def overlap(kind: Kind, one: str, two: str) -> bool:
    """Whether something may match both stored patterns; False only if surely nothing does."""
    return EVERYTHING in (one, two) or compiled(kind, one).overlaps(compiled(kind, two))


def cover(kind: Kind, wide: str, narrow: str) -> bool:
    """Whether all that matches `narrow` surely matches `wide`."""
    if wide in (narrow, EVERYTHING):
        return True
    return narrow != EVERYTHING and compiled(kind, wide).covers(compiled(kind, narrow))


def exact(kind: Kind, resource: str) -> str:
    """The stored pattern that matches exactly this resource, as far as it can be said: of a folder the folder alone,
    of an address that was resolved from a name the name."""
    if kind == "shell":
        return pattern_of(split(resource))
    if kind == "net":
        place, *names = resource.split(" ")
        return f"{names[0]}:{place.rpartition(':')[2]}" if names else place
    if kind == "file" and resource != "/" and Path(resource).is_dir():
        return f"{escape(resource)}/."
    return escape(resource) or EVERYTHING


def subject(kind: Kind, resource: str) -> Subject | None:
    """What a request is about; None if the resource is not in its kind's normal form, and so allowed to nobody."""
    return _SUBJECTS[kind](resource)
