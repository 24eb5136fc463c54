"""What is wrong with a program, in words for whoever wrote it: the line, the trouble, and what to do about it."""

from __future__ import annotations

import re

from weft.agent.program.limits import Limits

NAME = "program.py"
"""What a program's file is called."""
PROBLEMS = 12
"""Problems of a text that are told."""
LONGEST = 200
"""Characters of a line that are shown."""
LINES = 20
"""Lines of a traceback that are shown, of its beginning and of its end."""
_FIXES = {
    "unused-awaitable": "write `await` before it",
    "unresolved-reference": "there are the functions that were declared to you, and Python's own",
    "unresolved-import": "only modules that were named to you can be imported",
}
_PROBLEM = re.compile(r"\S*?:(?P<line>\d+):\d+: \w+\[(?P<rule>[\w-]+)\] (?P<words>.*)")
_CALLED = re.compile(r"^async def (\w+)\(.*\) -> .*(?=:$)", re.M)


def problems(text: str, source: str, stubs: str) -> str:
    """What the type checker says in `text`, by line; and the declarations of the tools that it says it of."""
    found = [line for line in text.splitlines() if line.strip()]
    told = [_problem(line, source.splitlines()) for line in found[:PROBLEMS]]
    if len(found) > PROBLEMS:
        told.append(f"and {len(found) - PROBLEMS} more")
    words = {*re.findall(r"\w+", "\n".join(told))}
    told += [match[0] for match in _CALLED.finditer(stubs) if match[1] in words][:PROBLEMS]
    return "the program was not run, for it does not fit:\n" + "\n".join(told)


def _problem(line: str, source: list[str]) -> str:
    match = _PROBLEM.match(line)
    if match is None:
        return line
    number, fix = int(match["line"]), _FIXES.get(match["rule"])
    if re.search(r"Expected `[^`]*[A-Z][^`]*`, found `dict\[", match["words"]):
        fix = "write the dict in the call itself, or annotate the variable: `name: Type = {...}`"
    written = source[number - 1].strip()[:LONGEST] if 0 < number <= len(source) else ""
    return f"line {number}: {match['words']}{f': {fix}' if fix else ''}" + (f"\n    {written}" if written else "")


def traced(text: str) -> str:
    """A traceback of the interpreter, with the program's name; of what is long, the beginnings and the ends."""
    lines = re.sub(r"<python-input-\d+>", NAME, text).splitlines()
    if len(lines) > 2 * LINES:
        lines = [*lines[:LINES], "...", *lines[-LINES:]]
    return "\n".join(line if len(line) <= 2 * LONGEST else f"{line[:LONGEST]}...{line[-LONGEST:]}" for line in lines)


def limited(text: str, limits: Limits, rounds: int) -> str:
    """The interpreter's word on a limit or on a snapshot, said otherwise; empty if it is on something else."""
    if text.startswith("TimeoutError: feed time limit"):
        return f"the program was ended: it worked for more than {limits.seconds:g} s; does it loop for ever?"
    if text.startswith("MemoryError: memory limit"):
        return f"the program was ended: its values take more than {limits.memory / 2**20:,.0f} MB"
    if "suspension limit" in text:
        return f"the program was ended: it turned to its host more than {rounds:,} times without waiting"
    if "failed to load session" in text:
        return "the program can't go on: it was begun with another version of the embedded Python; run it anew"
    return ""
