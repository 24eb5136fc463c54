"""Read a git repository's history: steps that change nothing, and need to read the repository.

Where its objects really lie (of a work tree: in another folder) is decided on, too. git runs with none of the user's or
the repository's helpers (no pager, hooks, external diff, file-system monitor, lazy fetching), takes no optional locks,
and gets its arguments after `--end-of-options`; a revision that looks like an option is refused before that.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from weft.core.crossing import authorised, closer, further
from weft.core.errors import GitError
from weft.core.pattern import real_path
from weft.core.resource import entry_path
from weft.core.resources import Resources
from weft.core.step import primitive
from weft.runtime.governor import limit_error, open_group

_SECONDS = 120.0
_FILTERS = r"^filter\..*\.(clean|smudge|process)$"
_FIELDS = "%H%x00%an%x00%aI%x00%P%x00%B%x00"


@dataclass(frozen=True)
class Commit:
    """One commit; `files` are the paths it touched, `additions` and `deletions` lines (binary files count none)."""

    hash: str
    author: str
    date: datetime
    subject: str
    body: str = ""
    files: list[str] = field(default_factory=list)
    additions: int = 0
    deletions: int = 0
    merge: bool = False


@dataclass(frozen=True)
class Change:
    """A file that differs. `index`, `worktree`: how, in git's letters: M, A, D, T, U, `?` (not known to git), or a
    space where it does not."""

    path: str
    index: str
    worktree: str


@primitive(name="git.log", effect="pure", needs="read:{repo}")
def log(
    repo: str | Path, *, since: str | None = None, until: str | None = None, max: int | None = None
) -> list[Commit]:
    """The commits reachable from `until` (default HEAD) and not from `since`, newest first, at most `max`.

    `since` and `until` are revisions: a hash, tag, branch or `HEAD~10`. Raises GitError if git is missing, `repo` is
    no repository or a revision is unknown; an empty repository has no commits.
    """
    repo = _authorised(repo)
    end = "HEAD" if until is None else _revision(repo, until)
    if until is None and _is_empty(repo):
        return []
    span = end if since is None else f"{_revision(repo, since)}..{end}"
    limit = [] if max is None else [f"--max-count={max:d}"]
    options = ["-z", "--numstat", "--no-renames", "--no-show-signature", "--no-color", "--no-ext-diff", "--no-textconv"]
    mark = f"\x01{secrets.token_hex(8)}"  # which no commit message can hold
    text = _git(repo, "log", *options, f"--format={mark}{_FIELDS}", *limit, "--end-of-options", span, "--")
    return [_commit(piece) for piece in text.split(mark)[1:]]


@primitive(name="git.status", effect="pure", needs="read:{repo}")
def status(repo: str | Path) -> list[Change]:
    """The files that differ from the last commit, and those that git does not know yet.

    Raises GitError as `log` does, and where the repository names a program that git would run on its files."""
    repo = _authorised(repo)
    _no_programs(repo)
    options = ["--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all"]
    return [Change(entry[3:], entry[0], entry[1]) for entry in _git(repo, "status", *options).split("\0") if entry]


@primitive(name="git.diff", effect="pure", needs="read:{repo}")
def diff(repo: str | Path, *, paths: Sequence[str] = ()) -> str:
    """How the files (of `paths`, relative to the repository; default: all) differ from the last commit, as a patch.

    Each of these files must be one that may be read. Raises Denied, and GitError as `status` does."""
    repo = _authorised(repo)
    _no_programs(repo)
    chosen = [f":(top,literal){path}" for path in paths]
    options = ["--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all"]
    root = _git(repo, "rev-parse", "--show-toplevel").removesuffix("\n")
    names = _git(repo, "diff", *options, "--name-only", "-z", "HEAD", "--", *chosen).split("\0")[:-1]
    for name in names:
        further("file.read", entry_path(f"{root}/{name}", root), "leave it out of `paths`")
    shown = [f":(top,literal){name}" for name in names]
    return _git(repo, "diff", *options, "HEAD", "--", *shown) if shown else ""


@primitive(name="git.web_address", effect="pure", needs="read:{repo}")
def web_address(repo: str | Path, *, remote: str = "origin") -> str | None:
    """Where the repository can be seen in a browser, e.g. `https://github.com/owner/name`; None if its remote is not
    such a place (nor there at all). Any user name or password in the remote's address is left out."""
    _plain(remote, "remote")
    repo = _authorised(repo)
    try:
        address = _git(repo, "config", "--get", f"remote.{remote}.url").strip()
    except GitError:
        _root(repo)  # no repository at all is an error; no remote is not
        return None
    return _browsable(address)


def _authorised(repo: str | Path) -> str:
    """The folder that may be read, if its repository lies where it may be read, too."""
    path = authorised("file.read", repo)
    for place in _git(path, "rev-parse", "--absolute-git-dir", "--git-common-dir").splitlines():
        real = real_path(place, path)
        decide = closer if f"{real}/".startswith(f"{path}/") else further
        decide("file.read", real, "give the folder that holds the repository")
    return path


def _no_programs(repo: str) -> None:
    """Raise GitError if the repository itself names filters: git would run them on files that it looks at."""
    try:
        found = _git(repo, "config", "--show-scope", "--name-only", "--get-regexp", _FILTERS)
    except GitError:
        return  # there are none
    for line in found.splitlines():
        scope, _, name = line.partition("\t")
        if scope not in ("system", "global"):
            raise GitError(
                f"the configuration of the repository {repo} names a program that git would run ({name}); look at it, "
                f"and remove it with `git config --unset {name}` unless you trust it"
            )


def _browsable(address: str) -> str | None:
    found = re.fullmatch(
        r"(?:https?://(?:[^@/\s]+@)?|ssh://(?:[^@/\s]+@)?|[\w.-]+@)(?P<host>[\w.-]+)(?::\d+(?=/))?[:/]/?(?P<path>[\w./~-]+?)(?:\.git)?/?",
        address,
    )
    if found is None or found["path"].count("/") < 1:
        return None
    return f"https://{found['host']}/{found['path']}"


def _commit(text: str) -> Commit:
    digest, author, date, parents, message, numbers = text.split("\0", 5)
    subject, _, body = message.strip().partition("\n")
    files: list[str] = []
    additions = deletions = 0
    for row in numbers.strip("\n\0").split("\0"):
        parts = row.strip("\n").split("\t", 2)
        if len(parts) == 3:
            files.append(parts[2])
            additions += int(parts[0]) if parts[0].isdigit() else 0
            deletions += int(parts[1]) if parts[1].isdigit() else 0
    return Commit(
        hash=digest,
        author=author,
        date=datetime.fromisoformat(date),
        subject=subject,
        body=body.strip(),
        files=files,
        additions=additions,
        deletions=deletions,
        merge=" " in parents,
    )


def _plain(word: str, what: str) -> None:
    if not word or word.startswith("-") or any(c in word for c in "\0\n") or ".." in word:
        raise GitError(f"{word!r} cannot be a {what}; give a hash, a tag or a name like HEAD~10")


def _revision(repo: str | Path, revision: str) -> str:
    _plain(revision, "revision")
    try:
        return _git(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except GitError:
        _root(repo)
        raise GitError(
            f"no commit is called {revision!r} in {repo}; see `git -C {repo} log --oneline`, or fetch more history"
        ) from None


def _is_empty(repo: str | Path) -> bool:
    try:
        _git(repo, "rev-parse", "--verify", "--quiet", "HEAD")
    except GitError:
        _root(repo)
        return True
    return False


def _root(repo: str | Path) -> None:
    """Raise GitError if `repo` is no repository."""
    _git(repo, "rev-parse", "--git-dir")


def _git(repo: str | Path, *arguments: str) -> str:
    settings = ["core.pager=cat", "core.fsmonitor=false", "core.hooksPath=/dev/null", "log.showSignature=false"]
    settings += ["core.quotePath=false", "protocol.allow=never"]
    command = ["git", "--no-pager", "-C", str(repo), *(w for s in settings for w in ("-c", s)), *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C.UTF-8",
    }
    if shutil.which("git") is None:
        raise GitError("git is not installed, or not on the PATH; install it (`apt install git`)")
    group = open_group(Resources(), "git", argv=["git", arguments[0]])
    try:
        done = subprocess.run(
            [*group.enter, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GitError(f"git took more than {_SECONDS:.0f} s in {repo}; ask for fewer commits") from None
    finally:
        group.close()
    if error := limit_error(group):
        raise error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ").splitlines()
        why = said[0] if said else f"exit status {done.returncode}"
        raise GitError(f"git could not read {repo} ({why}); {_fix(why)}")
    return done.stdout.decode("utf-8", "replace")


def _fix(why: str) -> str:
    if "dubious ownership" in why:
        return "it belongs to another user: run as that user, or add it with `git config --global --add safe.directory`"
    if "not a git repository" in why or "cannot change to" in why:
        return "give the path of a git working tree or bare repository"
    return "check it with `git fsck`"
