"""`weft run program.py --untrusted`: a program that nobody vouches for, with the tools that are named and no others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.agent.program.untrusted import Ran
    from weft.core.workflow import Workflow


def untrusted_of(
    file: str, tools: list[str], inputs: list[str]
) -> tuple[Workflow[..., Ran], tuple[Any, ...], dict[str, Any]]:
    """The workflow that runs this file, and its arguments. Raises BadInput."""
    from weft.agent.program.untrusted import named, untrusted
    from weft.cli.load import merged
    from weft.core.errors import BadInput

    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the program {file} could not be read: {error}") from None
    given = merged(inputs)
    if not isinstance(given, dict):
        raise BadInput(f"--input: a program is given names with values, not {given!r:.60}")
    names = [_whole(name) for name in tools]
    named(names)  # what is wrong with them is said before anything begins
    return untrusted, (text, names, given), {}


def _whole(name: str) -> str:
    """The name of a tool, with the whole path of its file."""
    place, separator, one = name.rpartition(":")
    return f"{Path(place).resolve()}:{one}" if separator and place.endswith(".py") else name


def shown(end: tuple[str, Ran], json: bool) -> tuple[str, Any]:
    """A run's id, and what is printed of it as its result: what the program printed comes before."""
    id, ran = end
    if json:
        return id, {"value": ran.value, "printed": ran.printed, "calls": ran.calls}
    if ran.printed:
        print(ran.printed, end="" if ran.printed.endswith("\n") else "\n")
    return id, ran.value
