"""Commands: patterns of argument vectors, word for word.

`git status` is that and nothing else; in `git log **` any arguments may follow; `pytest *` takes exactly one.
In a word `*`, `?` and `[...]` stay between slashes, as in `cat docs/*.md`. A command without a slash is one found
on the search path, or its absolute path in a folder that only the machine's owner writes; never `./git`.
Denies and asks match far more: see `launch`, and `CommandPattern.catches`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from weft.core.errors import BadInput
from weft.core.pattern.launch import Launches
from weft.core.pattern.path import real_path
from weft.core.pattern.text import check_stars, escape, fold, glob, literal, nfc
from weft.core.pattern.tree import Cut

_PLACES = ("/bin/", "/usr/bin/", "/usr/local/bin/", "/sbin/", "/usr/sbin/", "/usr/local/sbin/", "/opt/homebrew/bin/")
_PLAIN = re.compile(r"[^\s'\"\\&]+")
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""", re.DOTALL)
_PART = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^'"\\]+)""", re.DOTALL)
_OPTION = re.compile(r"[a-z]+=")
_LETTERS = re.compile(r"-[a-z]+")


def unquoted(raw: str) -> str:
    """One word without its quotes, as a shell reads it."""
    return "".join(
        re.sub(r'\\(["\\])', r"\1", double) if double else single + escaped + plain
        for single, double, escaped, plain in _PART.findall(raw)
    )


def raw_words(text: str) -> list[str]:
    """The words as they are written, quotes and all. Raises BadInput if a quote is not closed."""
    if _WORD.sub("", text).strip():
        raise BadInput(f"the command {text!r} has an open quote")
    return _WORD.findall(text)


def split(text: str) -> tuple[str, ...]:
    """The words of a command line, as shlex.split, only faster."""
    if "'" not in text and '"' not in text and "\\" not in text:
        return tuple(text.split())
    return tuple(map(unquoted, raw_words(text)))


def quote(word: str) -> str:
    """The word so that it stays one in a pattern; stars need no quotes."""
    if _PLAIN.fullmatch(word) and not _OPTION.match(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def shell_resource(argv: Sequence[str], folder: str | Path) -> str:
    """The resource of running `argv` in `folder`: a text that shlex.split turns back into the vector. A command with
    a slash gets its absolute path, real but for its last part, since programs look at the name they run by.
    Raises BadInput for an empty vector, and for what no argument can hold."""
    if isinstance(argv, str) or not argv or not argv[0]:
        raise BadInput(f"the command {argv!r} is no list of arguments such as ['git', 'status']")
    if any("\0" in word for word in argv):
        raise BadInput(f"the command {list(argv)!r} holds a NUL character")
    command = argv[0]
    if "/" in command:
        place, _, name = command.rpartition("/")
        parent = real_path(place or "/", folder).rstrip("/")
        command = real_path(command, folder) if name in ("", ".", "..") else f"{parent}/{name}"
    return shlex.join([command, *argv[1:]])


class ShellSubject:
    """One command: its words, and (for denies) all it may run."""

    __slots__ = ("_launches", "_wide", "argv", "keys")

    def __init__(self, argv: tuple[str, ...]) -> None:
        self.argv = tuple(map(nfc, argv))
        self.keys = [self.argv[0][self.argv[0].rfind("/") + 1 :], ""]
        self._launches: Launches | None = None
        self._wide: list[str] = []

    @property
    def launches(self) -> Launches:
        """All it may run."""
        if self._launches is None:
            self._launches = Launches(self.argv)
            self._wide = [*self._launches.places, ""]
        return self._launches

    @property
    def everywhere(self) -> bool:
        """Whether it hides what it runs, so that every deny must look at it."""
        return self.launches.hidden or bool(self.launches.wild)

    @property
    def wide_keys(self) -> list[str]:
        """Where denies and asks may be filed."""
        self.launches  # noqa: B018  (reads the command)
        return self._wide

    def cut(self, cuts: Iterable[Cut]) -> list[str]:
        """Where patterns of several words are filed."""
        words = (self.keys[0], *self.argv[1:])
        return [_row(words[:count]) for _, count in cuts if len(words) >= count]

    def wide_cut(self, cuts: Iterable[Cut]) -> list[str]:
        """Denies and asks are filed under the command alone."""
        return []


def shell_subject(resource: str) -> ShellSubject | None:
    """What a request for this command is about; None if it is none."""
    try:
        argv = split(resource)
    except BadInput:
        return None
    return ShellSubject(argv) if argv and argv[0] and "\0" not in resource else None


def _row(words: Sequence[str]) -> str:
    return "\0".join(words)


class CommandPattern:
    """A command, its arguments word for word, and whether more may follow."""

    __slots__ = ("_argv", "_globs", "_name", "key", "key_cut", "more", "wide_key", "words")
    wide_key_cut = None

    def __init__(self, words: tuple[str, ...]) -> None:
        self.more = words[-1] == "**"
        self.words = tuple(map(nfc, words[:-1] if self.more else words))
        command = self.words[0]
        name = literal(command[command.rfind("/") + 1 :])
        self.key = name or ""
        self.wide_key = fold(self.key)
        self.key_cut: Cut | None = None
        known = [name] if name else []
        for word in self.words[1:] if name else ():
            if (plain := literal(word)) is None:
                break
            known.append(plain)
        if len(known) > 1:
            self.key, self.key_cut = _row(known), (" ", len(known))
        self._argv = [_matcher(word) for word in self.words]
        self._name = _matcher(fold(command[command.rfind("/") + 1 :]))
        self._globs = [(_matcher(fold(word)), fold(word)) for word in self.words[1:]]

    def allows(self, subject: ShellSubject) -> bool:
        """Whether an allow with this pattern speaks of the command."""
        argv = subject.argv
        if len(argv) != len(self.words) and not (self.more and len(argv) > len(self.words)):
            return False
        command = argv[0]
        if "/" not in self.words[0] and "/" in command:
            command = command[command.rfind("/") + 1 :]
            if argv[0].removesuffix(command) not in _PLACES:
                return False
        if not _fits(self._argv[0], command):
            return False
        return all(map(_fits, self._argv[1:], argv[1:]))

    def overlaps(self, other: CommandPattern) -> bool:
        """Whether some command may match both; False only if surely none does."""
        short, long = (self, other) if len(self.words) <= len(other.words) else (other, self)
        if len(short.words) < len(long.words) and not short.more:
            return False
        if self.wide_key and other.wide_key and self.wide_key != other.wide_key:
            return False
        return not any(
            isinstance(one, str) and isinstance(two, str) and one != two
            for one, two in zip(self._argv[1:], other._argv[1:], strict=False)
        )

    def covers(self, other: CommandPattern) -> bool:
        """Whether all that matches the other surely matches this."""
        return self.words == other.words and (self.more or not other.more)

    def catches(self, subject: ShellSubject) -> bool:
        """Whether a deny or ask with this pattern speaks of it: of the program by whatever path, started by whatever
        other program, if the pattern's further words come after it in this order (letters of `-rf` in any)."""
        launches = subject.launches
        if launches.hidden:
            return True
        if self.wide_key:
            places = launches.places.get(self.wide_key, [])
            for name in launches.wild:
                if fnmatchcase(self.wide_key, name):
                    places = places + launches.places[name]
        else:
            places = [place for name, each in launches.places.items() if _fits(self._name, name) for place in each]
        return any(self._follows(line, position) for line, position in places)

    def _follows(self, line: list[str], position: int) -> bool:
        letters: set[str] | None = None
        for matcher, word in self._globs:
            if _LETTERS.fullmatch(word):
                if letters is None:
                    letters = {c for each in line[position + 1 :] if _LETTERS.fullmatch(each) for c in each}
                if not letters.issuperset(word):
                    return False
                continue
            position += 1
            while position < len(line) and not _fits(matcher, line[position]):
                position += 1
            if position >= len(line):
                return False
        return True


Matcher = str | re.Pattern[str] | None
"""Of one word: itself, a glob, or (None) any."""


def _matcher(word: str) -> Matcher:
    if word == "*":
        return None
    plain = literal(word)
    if plain is not None:
        return plain
    return glob(word.split("/"))


def _fits(matcher: Matcher, word: str) -> bool:
    if matcher is None or matcher == word:
        return True
    if isinstance(matcher, str) or matcher.fullmatch(word) is None:
        return False
    return ".." not in word.split("/")  # a wildcard must not climb out: docs/* is not docs/..


def shell_pattern(text: str, workspace: str | Path) -> str:
    """The pattern as it is stored: words quoted where needed, the command's path absolute if it has one. Raises
    BadInput if it cannot be one."""
    words = split(text)
    if not words or not words[0]:
        raise BadInput("the command pattern is empty: write the words of a command, such as shell:git status")
    if words in (("*",), ("**",)):
        return "**"
    for word in words:
        if "\0" in word:
            raise BadInput(f"the command pattern {text!r} holds a NUL character")
        check_stars(word.split("/"), text)
    if "**" in words[:-1]:
        raise BadInput(f"the command pattern {text!r}: '**' stands for all further arguments and comes last")
    command = words[0]
    if "/" in command:
        place, _, name = command.rpartition("/")
        known = literal(place)
        if known is None:
            raise BadInput(f"the command pattern {text!r}: the folder of a command has no wildcards")
        command = f"{escape(real_path(known or '/', workspace)).rstrip('/')}/{name}"
    stored = " ".join(map(quote, (command, *words[1:])))
    compiled_shell(stored)
    return stored


@lru_cache(maxsize=65536)
def compiled_shell(stored: str) -> CommandPattern:
    """The matcher of a stored command pattern."""
    words = split(stored)
    if not words:
        raise BadInput("a command pattern is empty")
    return CommandPattern(words)


def pattern_of(argv: Sequence[str]) -> str:
    """The pattern that matches exactly this command."""
    return " ".join(quote(escape(word)) for word in argv)
