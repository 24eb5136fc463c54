"""The figure "turns": no limit is ever overrun, and a limit that is extended on evidence spends less than a fixed one.

`overruns`: simulated agents (`benchmarks.agents.overruns`). `replayed`: real coding runs (`coding_turns.csv.gz` in
shared/data: prompt tokens, edits and outcomes of tests of each turn), cut where a policy would have cut them; the
policies are the real ones, and know only what was before. Each run is judged by a policy that was made of the others
(fixed: the 75th percentile of their turns; dynamic: it starts at the 50th).

Two simulations of what a cut does. *Deaf*: the agent goes on as recorded until it is cut, so that edits after the cut
are lost. *Told*: an agent that is told that its turns come to their end does not look around any more: with `TOLD`
turns left or fewer, it makes one of the source edits that stand in its next `AHEAD` recorded turns in each turn, and
skips what is between. In both, a run is solved if all its source edits are made before the turn in which it hands in.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from benchmarks.agents import overruns
from benchmarks.report import Measure, Report
from weft.agent.pace import Dynamic, Fixed, Pace, Taken
from weft.core.progress import Made, Progress, nearest_rank

DATA = Path(__file__).parents[3] / "shared" / "data" / "coding_turns.csv.gz"
PERCENTILE, START, MORE = 75, 50, 10
"""Of the fixed limit; of the start of the dynamic one; the turns that evidence earns."""
TOLD, AHEAD = 3, 6
SIMULATIONS = {"deaf": 0, "told, 3 ahead": 3, "told": AHEAD}
"""How far the agent looks ahead; the bar is on the last one."""


class Step(msgspec.Struct, frozen=True):
    """A recorded turn. `source`: it edited a file of the program; `tests`: "", pass, mixed or fail."""

    tokens: int
    source: bool
    tests: str


class Cut(msgspec.Struct, frozen=True):
    """What a run would have been."""

    turns: int
    tokens: int
    solved: bool


def recorded(path: Path = DATA) -> list[list[Step]]:
    """The runs."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    names = {"00": "", "10": "pass", "11": "mixed", "01": "fail"}
    return [
        [
            Step(
                int(row["input_tokens"]),
                row["source_edit"] == "1",
                names[row["tests_pass"] + row["tests_fail"]],
            )
            for row in rows
        ]
        for _, rows in groupby(rows, key=lambda row: (row["model_group"], row["task"]))
    ]


def replayed(run: Sequence[Step], pace: Pace, ahead: int = 0) -> Cut:
    """The run under this policy. `ahead`: how far an agent looks that is told; 0: it is deaf."""
    progress = Progress()
    taken: list[Taken] = []
    tokens = place = 0
    while True:
        limit = pace.limits(taken).turns
        left = len(run) if limit is None else int(limit) - len(taken) - 1
        tokens += run[min(len(taken), len(run) - 1)].tokens  # a prompt is as long as what was done before it
        if left <= 0 or place >= len(run) - 1:
            return Cut(len(taken) + 1, tokens, not any(step.source for step in run[place:]))
        coming = [at for at in range(place, min(len(run), place + ahead)) if run[at].source]
        place = coming[0] if coming and left <= TOLD else place
        signs = progress.saw(_made(run[place], place))
        taken.append(Taken(signs, len(taken) + 1, tokens, 0.0, 0.0))
        place += 1


def _made(step: Step, at: int) -> list[Made]:
    """Its calls, as far as the table tells them. What was read it does not tell: nothing of it counts as new."""
    made = [Made("edit", at, "done", changes=True)] if step.source else []
    if step.tests:
        texts = {"pass": "1 passed", "mixed": "1 passed, 1 failed", "fail": "1 failed"}
        made.append(Made("test", at, texts[step.tests]))
    return made


def policies(others: Sequence[Sequence[Step]]) -> tuple[Pace, Pace]:
    """The fixed and the dynamic one, by these runs."""
    lengths = [len(one) for one in others]
    start = int(nearest_rank(lengths, START))
    return Fixed(int(nearest_rank(lengths, PERCENTILE))), Dynamic(start, more=MORE)


def compared(runs: Sequence[Sequence[Step]], ahead: int) -> tuple[list[Cut], list[Cut]]:
    """All runs under both, each by policies made of the others."""
    fixed, dynamic = [], []
    for at, run in enumerate(runs):
        one, other = policies([*runs[:at], *runs[at + 1 :]])
        fixed.append(replayed(run, one, ahead))
        dynamic.append(replayed(run, other, ahead))
    return fixed, dynamic


def replays(report: Report) -> None:
    """Tokens and solved runs of both policies, in both simulations."""
    if not DATA.exists():
        report.add("turns", Measure(name="replayed", unit="tokens", note="coding_turns.csv.gz is not in shared/data"))
        return
    runs = recorded()
    for name, ahead in SIMULATIONS.items():
        fixed, dynamic = compared(runs, ahead)
        for policy, cuts in (("fixed", fixed), ("dynamic", dynamic)):
            solved = 100 * sum(one.solved for one in cuts) / len(cuts)
            tokens = [float(one.tokens) for one in cuts]
            more = {"sum, M": sum(tokens) / 1e6, "solved, %": solved, "turns": sum(one.turns for one in cuts)}
            report.add("turns", Measure(name=f"{name}: {policy}", unit="tokens", runs=tokens, more=more))
        less = 100 * (1 - sum(one.tokens for one in dynamic) / sum(one.tokens for one in fixed))
        fewer = 100 * (sum(one.solved for one in fixed) - sum(one.solved for one in dynamic)) / len(runs)
        told = name == "told"
        why = f"{len(runs)} runs, leave one out"
        report.bar("turns", f"{name}: less than fixed", less, least=12 if told else None, unit="%", why=why)
        report.bar("turns", f"{name}: points fewer solved", fewer, most=1 if told else None, why=why)


def tell(report: Report, quick: bool) -> None:
    """Add the figure "turns"."""
    replays(report)
    ran = asyncio.run(overruns.runs(60 if quick else 10_000, 7))
    over = [kind for one in ran for kind in one.over]
    limited = sum(one.limited for one in ran)
    report.bar(
        "turns", "limits overrun", len(over), most=0, why=f"{len(ran)} simulated runs, {limited} came to a limit"
    )
