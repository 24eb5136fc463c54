"""What a tool really said: of its output the lines that no usual run had, and not the hundreds that always come.

Lines are known by their templates (`weft.core.lines`) and by the status codes in them, so a path, a number or a time
that differs is no news. A line is unusual if its template, or a status in it, was never said by that name in a usual
run; how sure that is, is counted as for other answers (`Told`). What a tool said that failed is told without that: that
it failed is news enough.
"""

from __future__ import annotations

from typing import NamedTuple

from weft.core.lines import Line, Templates
from weft.core.lines.fold import TROUBLE
from weft.trace.explain.facts import failures_of
from weft.trace.explain.finding import Finding
from weft.trace.explain.past import Past
from weft.trace.explain.profile import Part, Profile, Seen
from weft.trace.explain.unusual import FEW, Told, Who, needed

STATUS = "STC"
QUOTED = 3
"""Lines that are quoted."""
SHOWN = 120
"""Characters of each."""


def said(run: Profile, past: Past) -> list[Finding]:
    """What steps and tools said that none of that name said in any usual run."""
    if len(past.usual) < FEW:
        return []
    read = _Read([*past.usual, run])
    told = Told(past, read.facts)
    least = needed(len(past.usual))
    found = []
    for part in run.parts:
        for seen in part.seen:
            news = [one for line in seen.lines if (one := _news(told, read.of(part, seen, line), line))]
            if seen.status == "failed":
                sure, common = 1.0, past.share((failures_of(old) for old in past.usual), seen.told)
                news = news if len(seen.lines) > 1 else []  # one line is told with the failure
            else:
                news = [one for one in news if one.sure >= least]
                sure, common = max((one.sure for one in news), default=0.0), None
            if news:
                words = f"{seen.symbol} said what it never said so far: {_quoted(news)}"
                id = run.id(part, seen)
                found.append(Finding(kind="said", words=words, effects=(id,), sure=sure, common=common, at=seen.at))
    return found


class _News(NamedTuple):
    line: str
    sure: float
    usual: str
    """The status that it said so far, if that is what is new."""


def _news(told: Told, facts: list[tuple[Who, str]], line: str) -> _News | None:
    for at, (who, what) in enumerate(facts):
        if told.new(who, what) and (at == 0 or told.asked[who]):
            return _News(line, told.sure(who, what), told.usual(who) if at else "")
    return None


class _Read:
    """The lines of runs, read together, so that what differs among them only is a variable in all."""

    def __init__(self, runs: list[Profile]) -> None:
        templates = Templates()
        texts = dict.fromkeys(line for run in runs for part in run.parts for one in part.seen for line in one.lines)
        self._lines: dict[str, Line] = {text: templates.parse(text) for text in texts}

    def facts(self, part: Part, one: Seen) -> list[tuple[Who, str]]:
        """What its lines say."""
        return [fact for line in one.lines for fact in self.of(part, one, line)]

    def of(self, part: Part, one: Seen, text: str) -> list[tuple[Who, str]]:
        """What one of them says: its template, and the status codes in it."""
        line = self._lines[text]
        template = line.template.text
        codes = " ".join(value.text for value in line.values if value.category == STATUS)
        said: list[tuple[Who, str]] = [((part.workflow, one.symbol), template)]
        return [*said, ((part.workflow, one.symbol, template), codes)] if codes else said


def _quoted(news: list[_News]) -> str:
    """Some of the lines in their order, those about errors before others."""
    first = sorted(range(len(news)), key=lambda at: (TROUBLE.search(news[at].line) is None, at))[:QUOTED]
    told = ", ".join(_short(news[at]) for at in sorted(first))
    return f"{told} and {len(news) - QUOTED} more lines" if len(news) > QUOTED else told


def _short(one: _News) -> str:
    line = one.line.strip()
    quoted = repr(line if len(line) <= SHOWN else line[: SHOWN - 1] + "…")
    return f"{quoted} (so far {one.usual})" if one.usual else quoted
