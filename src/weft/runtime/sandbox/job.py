"""What runs inside a wall: `Job(python="print(1)", copy=["/srv/repository"], resources=Resources(seconds=20))`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weft.core.errors import BadInput
from weft.core.resources import Resources

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOO_WIDE = frozenset(map(Path, ("/", "/proc", "/sys", "/dev", "/etc", "/root", "/home", "/run", "/var", "/tmp")))


@dataclass(frozen=True, kw_only=True)
class Streams:
    """What is kept of an output. `keep`: bytes held in memory, the first and the last; `whole`: bytes of it that are
    kept on disk when it is longer than that. What comes after `whole` is read, counted and thrown away."""

    keep: int = 1_000_000
    whole: int = 64_000_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to run. Give `argv`, a command and its arguments, or `python`, a program's text.

    `env` is all of the environment there is, besides PATH, HOME and TMPDIR. Nothing of the machine's files is seen but
    the system's programs and libraries and these folders and files, by absolute path: `read` may be read; `write` may
    be changed in place; of `copy` the job gets a copy, and its changes are in the result, to take or to drop. `hide`
    are names that are not seen anywhere in those: a journal is nobody's to read or write; `sees` says of each path in
    them whether it is seen, with all that is below it (None: all are), when the job begins. `cwd`: where it runs, in
    one of them (else in its private temporary folder). `stdin`: its input; with `interactive` the input stays open for
    `Running.write`. There is no network; with `network` it is this machine's, all that it reaches. `functions`: host
    functions that a program in the embedded Python may call.

    Raises BadInput for what cannot be meant: both or neither of `argv` and `python`, paths that are relative, missing
    or as wide as a machine, variables with odd names.
    """

    argv: Sequence[str] = ()
    python: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | str | None = None
    read: Sequence[Path | str] = ()
    write: Sequence[Path | str] = ()
    copy: Sequence[Path | str] = ()
    hide: Sequence[str] = (".weft",)
    sees: Callable[[Path], bool] | None = None
    stdin: bytes = b""
    interactive: bool = False
    network: bool = False
    streams: Streams = Streams()
    resources: Resources = field(default_factory=Resources)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.argv) == (self.python is not None):
            raise BadInput("Job: give argv=[command, ...] or python='a program', one of the two")
        if isinstance(self.argv, str | bytes) or not all(isinstance(word, str) for word in self.argv):
            raise BadInput(f"Job(argv={self.argv!r}): give a list of texts")
        for text in [*self.argv, *self.env.values(), self.python or ""]:
            if "\0" in text:
                raise BadInput("Job: a NUL character in a command, a program or a variable")
        for name in self.env:
            if not _NAME.fullmatch(name):
                raise BadInput(f"Job(env={{{name!r}: ...}}): names of variables are letters, digits and _")
        for name in self.hide:
            if not name or "/" in name or name in (".", ".."):
                raise BadInput(f"Job(hide=[{name!r}]): give the names of files or folders, not paths")
        for kind in ("read", "write", "copy"):
            object.__setattr__(self, kind, tuple(_place(kind, path) for path in getattr(self, kind)))
        if self.cwd is not None:
            object.__setattr__(self, "cwd", self._inside(Path(self.cwd)))

    def _inside(self, path: Path) -> Path:
        where = _place("cwd", path)
        if not where.is_dir() or not any(where.is_relative_to(place) for place in self.places):
            raise BadInput(f"Job(cwd={str(path)!r}): must be a folder in what read, write or copy name")
        return where

    def hides(self, path: Path) -> bool:
        """Whether this path below one of its places is not seen."""
        return path.name in self.hide or (self.sees is not None and not self.sees(path))

    @property
    def places(self) -> tuple[Path, ...]:
        """All paths of the machine that it sees in some way."""
        return tuple(map(Path, (*self.read, *self.write, *self.copy)))


def _place(kind: str, path: Path | str) -> Path:
    """The real path: resolved once, here; what becomes of its links later changes nothing."""
    if not Path(path).is_absolute():
        raise BadInput(f"Job({kind}=...{str(path)!r}): give an absolute path")
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BadInput(f"Job({kind}=...{str(path)!r}): {error}") from None
    if real in _TOO_WIDE or _special(real):
        raise BadInput(f"Job({kind}=...{str(path)!r}): too much; name the folders and files that are needed")
    return real


def _special(path: Path) -> bool:
    return any(path.is_relative_to(top) for top in ("/dev", "/proc", "/sys")) and not path.is_relative_to("/dev/shm")
