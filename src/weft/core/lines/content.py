"""Lines that are content: who asked for them wants them as they are, so folding leaves them alone.

Numbered lines of a file (`cat -n`, `grep -n`, a tool that reads files), hunks of a patch, and what stands in brackets
for a part that was left out, which tells where the rest is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBERED = re.compile(r"\s{0,8}(\d{1,7})(?:\t|→|[:\-|](?!\d)| \| )")
_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@")
_LEFT_OUT = re.compile(r"\[\.\.\. .* \.\.\.\]\s*$")


def contents(lines: Sequence[str]) -> list[bool]:
    """Of each line whether it is content."""
    numbers = [int(match[1]) if (match := _NUMBERED.match(line)) else None for line in lines]
    found: list[bool] = []
    hunk = False
    for at, line in enumerate(lines):
        hunk = (hunk and line[:1] in "+- \\") or _HUNK.match(line) is not None
        found.append(hunk or _counts_on(numbers, at) or _LEFT_OUT.match(line) is not None)
    return found


def _counts_on(numbers: Sequence[int | None], at: int) -> bool:
    """Whether the line is numbered, and one beside it too, in the same order."""
    number = numbers[at]
    if number is None:
        return False
    last = numbers[at - 1] if at else None
    following = numbers[at + 1] if at + 1 < len(numbers) else None
    return (last is not None and last < number) or (following is not None and number < following)
