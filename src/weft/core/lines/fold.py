"""Folded text: what a command printed, for a reader who pays by the word.

    folder = Folder()                # of one conversation: what was shown once is not shown again
    print(folder.fold(output))       # Collecting * (from *)  ×31
    print(folder.fold(output))       # … 31 again

Of lines with the same template the first is shown, and how many there are: `Sent 7…203 files to *  ×29`. What is not of
the kinds in `keep` is `*`, what is but differs goes from its least to its most; a rule of dashes is short. A line is
shown again where it says something else that matters: another status code; in a line about an error another place; in a
later text another amount. Lines with status codes are in every text, of errors that were shown at least the number.
Lines about errors stay as they came, and so does what is content (`weft.core.lines.content`) and the one line of a text
that is nothing but a value. Nothing is invented and no template left out.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from weft.core.errors import BadInput
from weft.core.lines.content import contents
from weft.core.lines.tagger import CATEGORIES
from weft.core.lines.templates import WILD, Line, Templates, Value
from weft.core.lines.words import form

KEPT = ("STC", "OBA", "TDA")
"""Status codes, amounts and durations: what a reader of an output looks for."""
REMEMBERED = 20_000
"""Folded lines that a folder knows it has shown; the one not seen for longest goes first, and is shown again."""
TROUBLE = re.compile(
    r"error|fail|exception|traceback|fatal|panic|denied|refused|not found|no such|cannot|can't|could ?n[o']t|unable|"
    r"missing|invalid|abort|segfault|killed|timed out|warn|\bFile \"|^E\s",
    re.I,
)
"""A line about an error."""
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_RULE = re.compile(r"([^\w\s])\1{3,}")
_MARKS = re.compile(r"(?<!\w)([^\w\s<>*])\1+(?!\w)")
"""A row of equal marks, whose length says how far something is, or nothing."""
_SPACES = re.compile(r"^\s*")
_WILDS = re.compile(re.escape(WILD) + rf"(?:, {re.escape(WILD)})+")
_PLACES = frozenset(("=path", "=file", "=uri", "=hostport", "=address"))
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
Said = tuple[str, ...]


class _Read(NamedTuple):
    """A line of a text, or lines in a row that are content: then `line` is None."""

    text: str
    line: Line | None
    trouble: bool

    @property
    def said(self) -> Said:
        return ("", self.text) if self.line is None else says(self.line, self.text)

    @property
    def size(self) -> int:
        """The lines that are not empty."""
        return sum(bool(one.strip()) for one in self.text.split("\n"))

    def values(self, category: str) -> list[str]:
        return [] if self.line is None else [one.text for one in self.line.values if one.category == category]

    @property
    def bare(self) -> bool:
        """No word of it is static."""
        key = () if self.line is None else self.line.template.key
        return self.line is not None and not any(part != WILD and any(map(str.isalnum, part)) for part in key)


class Folder:
    """Folds texts one after the other; what an earlier one showed, a later one only counts.

    `keep`: categories of variables whose values stay. `most`: folded lines that are remembered, about 100 bytes each,
    besides what `templates` remember. Raises BadInput for what is no category, and for a `most` below 1.
    """

    def __init__(self, keep: Iterable[str] = KEPT, templates: Templates | None = None, most: int = REMEMBERED) -> None:
        self.keep = frozenset(keep)
        if strange := self.keep - CATEGORIES.keys():
            raise BadInput(f"keep={sorted(strange)}: the categories are {', '.join(CATEGORIES)}")
        if most < 1:
            raise BadInput(f"most={most}: give a number from 1 up")
        self._most = most
        self._templates = templates or Templates()
        self._shown: OrderedDict[bytes, None] = OrderedDict()

    def fold(self, text: str) -> str:
        """The text with its repeats counted: the same one or a shorter one."""
        groups: dict[Said, list[_Read]] = {}
        for one in self._read(text):
            groups.setdefault(one.said, []).append(one)
        bare = sum(one.bare for lines in groups.values() for one in lines)
        again = errors = 0
        out: list[str] = []
        for said, (first, *others) in groups.items():
            alone, count = bare == 1 and first.bare, first.size * (1 + len(others))
            known = self._knows(said, [first.text] if alone else first.values("OBA"))
            if known and (first.trouble or not first.values("STC")):
                again += count
                errors += count if first.trouble else 0
            elif first.line is None:
                out.append(first.text)
                again += count - first.size
            else:
                shown = first.text.rstrip() if alone or first.trouble else self._short([first, *others])
                out.append(shown + (f"  ×{count}" if others else ""))
        if again:
            out.append(f"… {again} again" + (f", {errors} error{'s' * (errors > 1)}" if errors else ""))
        folded = "\n".join(out)
        return folded if len(folded) < len(text) else text

    def forget(self) -> None:
        """What was shown is not before the reader any more: it is shown again."""
        self._shown.clear()

    def _read(self, text: str) -> list[_Read]:
        """The lines that are not empty, and what is content; all are read before any is told by its template."""
        lines = _TERMINAL.sub("", text).splitlines()
        found = []
        for content, some in groupby(zip(contents(lines), lines, strict=True), itemgetter(0)):
            row = [one for _, one in some]
            if content:
                found.append(_Read("\n".join(row), None, False))
            else:
                found += [
                    _Read(one, self._templates.parse(one), TROUBLE.search(one) is not None)
                    for one in row
                    if one.strip()
                ]
        return found

    def _knows(self, said: Said, told: Iterable[str]) -> bool:
        """Whether this was shown; it is from now on."""
        key = blake2b("\0".join((*said, "", *told)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = key in self._shown
        self._shown[key] = None
        self._shown.move_to_end(key)
        if len(self._shown) > self._most:
            self._shown.popitem(last=False)
        return known

    def _short(self, lines: list[_Read]) -> str:
        """These lines of one template as one."""
        line = lines[0].line
        assert line is not None
        key = line.template.key
        alike = [one.line.parts for one in lines if one.line is not None and one.line.template.key == key]
        parts: list[str | None] = []
        for place, (part, one, tag) in enumerate(zip(line.parts, key, line.tags, strict=True)):
            if one == WILD and tag not in self.keep:
                if parts[-3:] == [None, ",", " "]:  # of a list that is left out one is enough
                    del parts[-3:]
                parts.append(None)
            else:
                parts.append(_span([other[place] for other in alike]) if one == WILD else part)
        short = "".join("*" if part is None else part for part in parts)
        return _RULE.sub(r"\1\1\1", _SPACES.match(lines[0].text)[0] + short)  # type: ignore[index]


def says(line: Line, text: str) -> Said:
    """What a folded text must show of a line: its template, its status codes, what is wrong, and where."""
    trouble = TROUBLE.search(text)
    told = [one.text for one in line.values if one.category == "STC" or (trouble and _is_place(one))]
    template = _MARKS.sub(r"\1", _WILDS.sub(WILD, line.template.text))
    return (template, *told, *([trouble[0].strip()] if trouble else ()))


def _is_place(value: Value) -> bool:
    """By its category, or by what it looks like."""
    return value.category == "LOI" or form(value.text).split()[0] in _PLACES


def _span(values: list[str]) -> str:
    """What stood in one place: the value, or numbers from the least to the most."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return distinct[0]
    if all(map(_NUMBER.fullmatch, distinct)):
        distinct.sort(key=float)
    return f"{distinct[0]}…{distinct[-1]}"


def fold(text: str, keep: Iterable[str] = KEPT) -> str:
    """One text alone, folded. Raises BadInput for what is no category."""
    return Folder(keep).fold(text)
