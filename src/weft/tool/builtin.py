"""Weft's own tools for agents: what `weft.tool.files`, `.shell`, `.sandbox`, `.python`, `.http` and `.git` do, in a
model's words.

    tools = builtin.FILES + builtin.GIT                    # or builtin.ALL.only("read_file", "run_command")

Each needs the rights of the steps beneath it (`read:`, `write:`, `shell:`, `sandbox:`, `net:`), decided before it
begins. Results are texts that say what a model needs to go on; long ones are shown in part and kept whole
(`read_output`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from weft.core.content import Blob, modality_of
from weft.core.errors import BadInput
from weft.core.resources import Paused
from weft.tool import files, git, http, output, python, sandbox, shell
from weft.tool.declare import tool
from weft.tool.failure import ToolRetry
from weft.tool.toolset import Toolset

# --- files ----------------------------------------------------------------------------------------------------------


@tool(effect="pure", needs="read:{path}")
async def read_file(path: str, start: int = 1, lines: int = 1000) -> str:
    """Read lines of a text file, with their numbers. The last line of the answer tells the file's digest, for which
    edit_file and write_file ask.

    Args:
        path: The file, seen from the workspace.
        start: The first line that is wanted, from 1.
        lines: How many.
    """
    return (await files.read(path, start, lines)).shown


@tool(needs=("read:{path}", "write:{path}"))
async def write_file(path: str, text: str, seen: str | None = None) -> str:
    """Write a text file: a new one, or all of one that was read.

    Args:
        path: The file, seen from the workspace. Its folder must exist.
        text: All that is to be in it.
        seen: The digest that read_file told, if the file exists.
    """
    done = await files.write(path, text, seen=seen)
    return f"[written; digest {done.digest}]"


@tool(effect="at_most_once", needs=("read:{path}", "write:{path}"))
async def edit_file(path: str, old: str, new: str, seen: str, count: int = 1) -> str:
    """Replace a text in a file that was read.

    Args:
        path: The file.
        old: The text exactly as it stands in the file, without line numbers, and so long that it is there only once.
        new: What comes in its place.
        seen: The digest that read_file, or the edit before, told.
        count: How often the text is there, if it is to be replaced in more than one place.
    """
    done = await files.edit(path, old, new, seen=seen, count=count)
    return f"{done.diff}[edited; digest {done.digest}]"


@tool(effect="pure", needs="read:{folder}")
async def search_files(
    pattern: str, folder: str = ".", glob: str = "", literal: bool = False, ignore_case: bool = False, context: int = 0
) -> str:
    """Find the lines of text files that a pattern matches.

    Args:
        pattern: A regular expression of Python.
        folder: Where to look, with all that is below; or one file.
        glob: Which files, such as `*.py`; all if empty.
        literal: The pattern is a plain text.
        ignore_case: Capitals and small letters are the same.
        context: How many lines around each are shown.
    """
    found = await files.search(pattern, folder, glob=glob or (), literal=literal, case=not ignore_case, context=context)
    return found.shown


@tool(effect="pure", needs="read:{folder}")
async def list_files(folder: str = ".") -> str:
    """What is in a folder: names (those of folders end with a slash) and sizes in bytes."""
    items = await files.list(folder)
    return (
        "\n".join(f"{one.name}/" if one.kind == "folder" else f"{one.name}  {one.size}" for one in items) or "[empty]"
    )


@tool(effect="pure", needs="read:{folder}")
async def find_files(pattern: str, folder: str = ".") -> str:
    """Find files by name below a folder.

    Args:
        pattern: Such as `*.md` for those in the folder, `**/*.md` for those at any depth.
        folder: Where to look.
    """
    return "\n".join(await files.find(pattern, folder)) or "[no file fits]"


# --- commands -------------------------------------------------------------------------------------------------------


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadInput(f"the command {command!r} can't be read: {error}") from None
    if not words:
        raise BadInput("the command is empty")
    return words


def _to_run(command: str, **_: Any) -> Iterator[tuple[str, Any]]:
    yield "shell.run", _words(command)


@tool(effect="at_most_once", needs=_to_run)
async def run_command(command: str, seconds: float = 120.0) -> str:
    """Run a command in the workspace and wait for its end. No shell reads it: pipes, `>`, `&&` and `$NAME` are plain
    words; where they are needed, run `sh -c '...'`.

    Args:
        command: The program and its arguments, quoted as for a shell.
        seconds: Then it is ended.
    """
    done = await shell.run(_words(command), timeout=seconds)
    return _told(done.code, done.stdout, done.stderr, done.paused)


def _to_say(command: str, **_: Any) -> Iterator[tuple[str, Any]]:
    yield "sandbox.run", ["sh", "-c", command]
    yield "file.read", "."


@tool(effect="pure", needs=_to_say)
async def sandbox_shell(command: str, seconds: float = 120.0) -> str:
    """Run a command in a shell that stays, with its folder and variables, in a sandbox: it has no network, and works on
    a copy of the workspace, which nobody else sees.

    Args:
        command: What the shell reads.
        seconds: Then it is ended, and the shell with it.
    """
    said = await sandbox.say(command, seconds=seconds)
    told = _told(said.code, said.stdout, said.stderr, said.paused)
    return f"[a new shell, on a new copy of the workspace]\n{told}" if said.fresh else told


@tool(effect="pure")
async def run_python(program: str, seconds: float = 30.0) -> str:
    """Run a Python program by itself: it sees no files, no network and nothing of earlier runs. Print what is wanted.

    Args:
        program: The whole program.
        seconds: Then it is ended.
    """
    done = await python.run(program, seconds=seconds)
    made = f"\n[it made files: {', '.join(sorted(done.files))}]" if done.files else ""
    return _told(done.code, done.stdout, done.stderr, done.paused) + made


def _told(code: int, stdout: str, stderr: str, paused: Paused | None) -> str:
    parts = [stdout.rstrip("\n")] if stdout.strip() else []
    if stderr.strip():
        parts.append(f"[errors]\n{stderr.rstrip(chr(10))}" if parts else stderr.rstrip("\n"))
    if code:
        parts.append(f"[ended by signal {-code}]" if code < 0 else f"[exit status {code}]")
    if paused is not None:
        parts.append(f"[{paused}]")
    return "\n".join(parts) or "[it said nothing, and ended well]"


# --- the web --------------------------------------------------------------------------------------------------------


def _to_fetch(url: str, **_: Any) -> Iterator[tuple[str, Any]]:
    yield "net.connect", url


@tool(effect="pure", needs=_to_fetch)
async def fetch_url(url: str) -> str | Blob:
    """Get what is at a web address: its text, or an image.

    Args:
        url: Such as `https://example.com/page`.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ToolRetry(f"{url!r} is no web address: write it as https://host/path")
    found = await http.fetch(url)
    kind = found.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found.ok and modality_of(kind) in ("image", "audio"):
        return Blob.of(found.body, kind, found.url)
    note = "" if found.ok and found.url == url else f"[status {found.status} of {found.url}]\n"
    return note + found.text


# --- git --------------------------------------------------------------------------------------------------------------


@tool(effect="pure", needs="read:{folder}")
async def git_log(folder: str = ".", since: str | None = None, until: str | None = None, most: int = 20) -> str:
    """The commits of a git repository, newest first.

    Args:
        folder: The repository.
        since: A revision: only commits that it does not have.
        until: A revision: it and what came before; HEAD if none is said.
        most: How many.
    """
    found = await git.log(folder, since=since, until=until, max=most)
    rows = [
        f"{one.hash[:12]} {one.date:%Y-%m-%d} {one.author}: {one.subject} [{len(one.files)} files, +{one.additions} "
        f"-{one.deletions}]"
        for one in found
    ]
    return "\n".join(rows) or "[no commits]"


@tool(effect="pure", needs="read:{folder}")
async def git_status(folder: str = ".") -> str:
    """The files of a git repository that differ from its last commit, each after git's two letters."""
    found = await git.status(folder)
    return "\n".join(f"{one.index}{one.worktree} {one.path}" for one in found) or "[nothing differs]"


@tool(effect="pure", needs="read:{folder}")
async def git_diff(folder: str = ".", paths: list[str] | None = None) -> str:
    """How the files of a git repository differ from its last commit, as a patch.

    Args:
        folder: The repository.
        paths: Only these files, seen from the repository; all if none are said.
    """
    return await git.diff(folder, paths=paths or ()) or "[nothing differs]"


# --- long results -----------------------------------------------------------------------------------------------------


@tool(effect="pure")
async def read_output(ref: str, start: int = 1, lines: int = 1000) -> str:
    """Read more of a long result that was shown in part.

    Args:
        ref: What the result says in the place of what was left out.
        start: The first line that is wanted, from 1.
        lines: How many.
    """
    return (await output.read(ref, start, lines)).shown


@tool(effect="pure")
async def search_output(ref: str, pattern: str, context: int = 0) -> str:
    """Find the lines of a long result that was shown in part.

    Args:
        ref: What the result says in the place of what was left out.
        pattern: A regular expression of Python.
        context: How many lines around each are shown.
    """
    return (await output.search(ref, pattern, context=context)).shown


FILES = Toolset(read_file, write_file, edit_file, search_files, list_files, find_files)
COMMANDS = Toolset(run_command, run_python, sandbox_shell)
WEB = Toolset(fetch_url)
GIT = Toolset(git_log, git_status, git_diff)
OUTPUTS = Toolset(read_output, search_output)
ALL = Toolset(FILES, COMMANDS, WEB, GIT, OUTPUTS)
