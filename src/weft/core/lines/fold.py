"""Folded text: what a command printed, for a reader who pays by the word.

    folder = Folder()                # of one conversation: what was shown once is not shown again
    print(folder.fold(output))       # Collecting * (from *)  [×31]

Of lines with the same template the first is shown, and how many there are. A line is shown again where it says
something else that matters: another status code, or, in a line about an error, another place. Lines about errors are
shown as they came; in others what is not of the kinds in `keep` is `*`, and a rule of dashes is short. Nothing is
invented and no template left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from weft.core.errors import BadInput
from weft.core.lines.tagger import CATEGORIES
from weft.core.lines.templates import WILD, Line, Templates

KEPT = ("STC", "OBA", "TDA")
"""Status codes, amounts and durations: what a reader of an output looks for."""
TROUBLE = re.compile(
    r"error|fail|exception|traceback|fatal|panic|denied|refused|not found|no such|cannot|can't|could ?n[o']t|unable|"
    r"missing|invalid|abort|segfault|killed|timed out|warn|^\s*File \"|^E\s",
    re.I,
)
"""A line about an error."""
_RULE = re.compile(r"([^\w\s])\1{3,}")
_SPACES = re.compile(r"^\s*")
Said = tuple[str, ...]


class _Shown(NamedTuple):
    said: Said
    text: str


class Folder:
    """Folds texts one after the other; what an earlier one showed, a later one only counts.

    `keep`: categories of variables whose values stay. Raises BadInput for what is no category.
    """

    def __init__(self, keep: Iterable[str] = KEPT, templates: Templates | None = None) -> None:
        self.keep = frozenset(keep)
        if strange := self.keep - CATEGORIES.keys():
            raise BadInput(f"keep={sorted(strange)}: the categories are {', '.join(CATEGORIES)}")
        self._templates = templates or Templates()
        self._said: dict[Said, None] = {}

    def fold(self, text: str) -> str:
        """The text with its repeats counted: the same one or a shorter one."""
        counts: dict[Said, int] = {}
        shown: list[_Shown] = []
        before = 0
        for one in text.splitlines():
            if not one.strip():
                continue
            line = self._templates.parse(one)
            said = says(line, one)
            if said in counts:
                counts[said] += 1
            elif said in self._said:
                before += 1
            else:
                counts[said] = 1
                shown.append(_Shown(said, one if TROUBLE.search(one) else self._short(line, one)))
        for said in counts:
            self._said[said] = None
        out = [line + (f"  [×{counts[said]}]" if counts[said] > 1 else "") for said, line in shown]
        if before:
            out.append(f"[{before} as before]")
        folded = "\n".join(out)
        return folded if len(folded) < len(text) else text

    def _short(self, line: Line, text: str) -> str:
        parts = [
            part if key != WILD or tag in self.keep else "*"
            for part, key, tag in zip(line.parts, line.template.key, line.tags, strict=True)
        ]
        return _RULE.sub(r"\1\1\1", _SPACES.match(text)[0] + "".join(parts))  # type: ignore[index]


def says(line: Line, text: str) -> Said:
    """What a folded text must show of a line: its template, its status codes, and where an error is."""
    trouble = TROUBLE.search(text) is not None
    told = (value.text for value in line.values if value.category == "STC" or (trouble and value.category == "LOI"))
    return (line.template.text, *told)


def fold(text: str, keep: Iterable[str] = KEPT) -> str:
    """One text alone, folded. Raises BadInput for what is no category."""
    return Folder(keep).fold(text)
