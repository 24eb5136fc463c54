"""Triage a log: what happened in it, how often, and which of it a person should look at.

    weft run examples/triage.py --input log=app.log --allow write:./TRIAGE.md
    python examples/triage.py PATH/TO/app.log --model anthropic:claude-sonnet-5

Lines that differ in dates, numbers, addresses and the like only are one group. Of those that say their level (ERROR,
info) that is believed; of the others the model says whether they tell of a failure, under a JSON schema, many at
once. A model that can use tools then looks into the log and says what it thinks is behind the failures: an agent,
which may read and search the folder of the log, and nothing else. The embedded model is too small for that, and its
word about single lines is no more than a hint (of 24 groups of a supercomputer's log without their levels, half of them
alerts, it called 10 of 12 alerts failures, and 8 of 12 others too); so with it the page is the groups, their levels,
and that hint.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import weft
from weft.agent import Agent
from weft.model import Classifier, Model
from weft.tool import builtin, files

FAILURE, NORMAL = "failure", "normal"
SYSTEM = (
    "You read lines of logs. failure: something broke, was refused, lost or timed out. "
    "normal: a start, a stop, progress, a measurement."
)
EXAMPLES = [
    ("Connection to database lost, giving up", FAILURE),
    ("Server started on port 8080", NORMAL),
    ("Out of memory: killed process 4711", FAILURE),
    ("Request finished in 12 ms", NORMAL),
    ("Permission denied for user guest", FAILURE),
    ("Received block of size 1024 from 10.0.0.1", NORMAL),
    ("Checksum mismatch in sector 17", FAILURE),
    ("Cache has 300 entries", NORMAL),
]
NEUTRAL = [
    "Timeout while waiting for node 3", "Could not open file /tmp/a", "Fatal exception in thread main",
    "Job 12 done", "Loaded configuration from /etc/app.conf", "New session for user ann",
]  # fmt: skip
"""Made up, from no log: half of them failures, to measure the model's habits on."""
GROUPS = 60
"""The most groups that the model is asked about: the rarest go first, for what happens all the time is seldom news."""

LEVEL = re.compile(
    r"\b(?:(fatal|critical|crit|emerg|alert|severe|error|err|failure|panic)|(info|notice|debug|trace))\b", re.I
)
VARIES = re.compile(
    r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b|"
    r"0x[0-9a-fA-F]+|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b|(?:/[\w.-]+){2,}|\b[0-9a-fA-F]{8,}\b|[-+]?\d+(?:[.:,-]\d+)*"
)


def group(lines: list[str]) -> list[tuple[str, str, int]]:
    """(what is common, the first such line, how many) of the lines, the rarest first."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for line in lines:
        if line.strip():
            form = VARIES.sub("*", line.strip())
            counts[form] += 1
            first.setdefault(form, line.strip())
    return [(form, first[form], count) for form, count in reversed(counts.most_common())]


def level(line: str) -> str | None:
    """What the line itself says it is."""
    found = LEVEL.search(line)
    return None if found is None else FAILURE if found[1] else NORMAL


def classifier(model: Model) -> Classifier:
    """Tells a failure from what is normal."""
    neutral = NEUTRAL if model.embedded else ()
    return Classifier(model, [FAILURE, NORMAL], system=SYSTEM, examples=EXAMPLES, neutral=neutral, form="Line: {}")


def investigator(model: str) -> Agent[str]:
    """Looks into the log for what is behind the failures."""
    return Agent(
        model,
        name="investigator",
        instructions="You look into a log file for the causes of failures. Be brief, and quote the lines you rely on.",
        tools=[builtin.read_file, builtin.search_files],
        turns=12,
    )


@weft.workflow
async def triage(
    log: str, model: str = weft.model.DEFAULT, output: str = "TRIAGE.md", causes: bool | None = None
) -> dict[str, Any]:
    """Write `output` about the file `log`. `causes`: whether an agent looks for them; if the model is not embedded, if
    nothing is said."""
    text = await files.read_text(log)
    groups = group(text.splitlines())
    mind = Model(model)
    kind_of = classifier(mind)
    asked = [form for form, line, _ in groups if level(line) is None][:GROUPS]
    guessed = dict(zip(asked, await asyncio.gather(*(kind_of(form[-300:]) for form in asked)), strict=True))
    failures = [one for one in groups if (level(one[1]) or guessed.get(one[0])) == FAILURE]
    said = ""
    if failures and (not mind.embedded if causes is None else causes):
        told = "\n".join(f"- {count} ×: {line[:300]}" for _, line, count in failures[:20])
        said = (await investigator(model).conversation().say(f"The file is {log}. Its failures:\n{told}")).output
    page = render(log, model, groups, failures, said)
    return {
        "run": weft.current().id,
        "output": await files.write_text(output, page),
        "lines": sum(count for _, _, count in groups),
        "groups": len(groups),
        "failures": len(failures),
    }


def render(
    log: str, model: str, groups: list[tuple[str, str, int]], failures: list[tuple[str, str, int]], said: str
) -> str:
    """The page as Markdown."""
    page = [f"# {log}", "", f"Of lines without a level, what is a failure is the guess of `{model}`.", ""]
    if said:
        page += ["## What may be behind them", "", said, ""]
    others = [one for one in groups if one not in failures]
    for title, some in (("To look at", failures), ("All else", others)):
        page += [f"## {title} ({len(some)})", "", *(f"- {count} × `{plain(line)}`" for _, line, count in some), ""]
    return "\n".join(page)


def plain(line: str) -> str:
    return line[:200].replace("`", "'")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Triage a log with a local model, or look for causes with a strong one."
    )
    parser.add_argument("log")
    parser.add_argument("--model", default=weft.model.DEFAULT, help="a model's spec")
    parser.add_argument("--output", default="TRIAGE.md")
    chosen = vars(parser.parse_args())
    log, output = (Path(chosen[name]).expanduser().absolute() for name in ("log", "output"))
    chosen |= {"log": str(log), "output": str(output)}
    try:
        # Whoever names them on the command line allows them.
        with weft.grant(f"read:'{log.parent}'", f"write:'{output}'", "model:**", "tool:read_file", "tool:search_files"):
            result = weft.run(triage, **chosen)
    except weft.WeftError as error:
        sys.exit(f"triage: {error}")
    print(f"{result['output']}: {result['lines']} lines, {result['groups']} groups, {result['failures']} to look at")
    print(f"run {result['run']}: `weft show {result['run']}` tells what happened in it")


if __name__ == "__main__":
    main()
