"""What a command may run besides itself: for denies, which must not be walked around with `env rm` or `sh -c "rm"`.

Nobody can list what a program will do. So the reading errs on the side of the deny: every argument of a program
that is not known to take its arguments as plain data may be a command, and every word of a text with spaces in it
may be one; text that hides its words (`eval "$(base64 -d)"`) may be any. A deny of a command keeps an agent from
mistakes and crude tricks; to keep it from a program's doings, allow it only the commands it needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from weft.core.errors import BadInput
from weft.core.pattern.path import known_path
from weft.core.pattern.text import fold

_DATA = frozenset(
    re.findall(
        r"\S+",
        """basename cat chgrp chmod chown cmp comm cp curl cut date df diff dirname du echo egrep false fgrep file fold
        grep head id join jq kill ln ls md5sum mkdir mktemp mv nl od paste pgrep printf ps pwd readlink realpath rg rm
        rmdir sha1sum sha256sum sleep stat sum tac tail tee test touch tr tree true uname uniq wc which who whoami [""",
    )
)
"""Programs that run nothing their arguments say."""
_GIT_RUNS = re.compile(r"-c|-x|--exec.*|--config.*|--upload-pack.*|--receive-pack.*|--extcmd.*|bisect|rebase|submodule|"
                       r"difftool|mergetool|config|filter-branch|.*!.*")  # fmt: skip
_FIND_RUNS = frozenset(["-exec", "-execdir", "-ok", "-okdir"])
_TOKENS = re.compile(r"[\w./+~*?\[\]-]+")
_QUOTES = re.compile(r"\\\n|[\\'\"]")
_JOINED = re.compile(r"['\"]\s*+(?:[+.]\s*+)?['\"]")
_SPACE = r"[^\S\n]"
_HIDDEN = re.compile(
    r"\beval\b|\$'|`|<\(|\|\s*+(?:[^\s|;&]{0,256}/)?(?:ba|da|z|k|a|fi)?sh\b"  # or piped into a shell
    # a variable, a substitution or braces where a command begins: $x, a$b, $(...), r{m,}
    rf"|(?:^|[;&|\n({{!]|\b(?:do|then|else|exec|env|sudo|xargs|command|nohup|time|nice)\s){_SPACE}*+['\"]?"
    rf"(?:\w{{1,64}}+=\S{{0,256}}+{_SPACE}++)*+[\w./'\"\\,-]*+(?:\$(?!\w{{1,64}}+/)|\{{[^\s{{}},]*+,)"
    r"|\b(?:exec|b(?:16|32|64|85)decode|a85decode|fromhex|unhexlify|chr|fromCharCode|atob|getattr)\s*+\("
    r"|\\(?:x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4})"
)
"""Signs that a text hides which commands it runs. Everything is possessive or short: time stays linear."""
_MANY = 256
"""Longer wildcards, and more of them, are not tried: they hide what they mean."""
_WILD = re.compile(r"[*?\[]")


def base(word: str) -> str:
    """The name a command is known by: the last part of its path, in the form that denies compare."""
    return fold(word[word.rfind("/") + 1 :])


class Launches:
    """All that an argument vector may run: at each place (line, position) a command may begin."""

    __slots__ = ("hidden", "places", "wild")

    def __init__(self, argv: tuple[str, ...]) -> None:
        self.places: dict[str, list[tuple[list[str], int]]] = {}
        self.hidden = False
        self.wild: list[str] = []
        line = [base(argv[0]), *map(fold, argv[1:])]
        self.places[line[0]] = [(line, 0)]
        for known in _real_names(argv[0]):
            self.places.setdefault(known, []).append((line, 0))
        for position in _runnable(line[0], argv):
            word = line[position]
            self._add(line, position, base(word))
            if not _TOKENS.fullmatch(word):
                self._read(argv[position])
            elif "/" in word:
                for known in _real_names(argv[position]):
                    self._add(line, position, known)

    def _add(self, line: list[str], position: int, name: str) -> None:
        self.places.setdefault(name, []).append((line, position))
        if _WILD.search(name) and name.strip("*"):
            self.wild.append(name)  # /bin/r? may be rm
            self.hidden = self.hidden or len(name) > _MANY or len(self.wild) > _MANY

    def _read(self, code: str) -> None:
        """Every word of a text that some program may take as code."""
        if _HIDDEN.search(code):
            self.hidden = True
        plain, joined = _QUOTES.sub("", code), _JOINED.sub("", code)
        for text in dict.fromkeys((code, plain, joined)):
            words = [fold(word) for word in _TOKENS.findall(text)]
            for position, word in enumerate(words):
                self._add(words, position, base(word))


def _runnable(command: str, argv: tuple[str, ...]) -> Iterator[int]:
    """The positions of arguments that the command may run or read as code."""
    count = len(argv)
    if command in _DATA or (command == "git" and not any(map(_GIT_RUNS.fullmatch, argv[1:]))):
        return
    if command == "find":
        starts = [position for position, word in enumerate(argv) if word in _FIND_RUNS]
        yield from range(starts[0] + 1 if starts else count, count)
        return
    yield from range(1, count)


def _real_names(word: str) -> list[str]:
    """Names of the program behind symlinks: `./x` that points to /bin/rm is rm, `vi` may be vim."""
    places = [word] if "/" in word else [f"{folder or '.'}/{word}" for folder in os.get_exec_path()]
    for place in places:
        try:
            if not os.access(place, os.X_OK):
                continue
            found = known_path(place)
        except (BadInput, OSError, ValueError):
            continue
        if found:
            name = base(found)
            return [] if name == base(word) else [name]
    return []
