"""How often is the model's label the author's? `python -m benchmarks.labels [--quick] [--model NAME] [--json FILE]`.

Real commits of a project that follows Conventional Commits, their prefix removed (data/ORIGIN.md); the classifier is
the one of examples/changelog.py. Beside it: always the most frequent label, and a list of key words.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from examples.changelog import TITLES, commit_classifier
from weft.model import DEFAULT, Model, close

DATA = Path(__file__).parent / "data" / "commits.jsonl"
QUICK_COMMITS, QUICK_SECONDS = 100, 35.0

# Written from the convention's own words and tried on the development split only. The first that fits decides.
KEYWORDS = [
    ("test", r"\btests?\b|\btesting\b|\bcoverage\b|\bfixtures?\b"),
    (
        "documentation",
        r"\bdocs?\b|\bdocument\w*|\breadme\b|\btypos?\b|\bcomments?\b|\bexamples?\b|\bguides?\b|\bwebsite\b",
    ),
    (
        "fix",
        r"^(?:fix\w*|correct\w*|resolve\w*|handle\w*|avoid\w*|prevent\w*)\b|\b(?:bug|crash|error|issue|wrong)\w*",
    ),
    (
        "refactoring",
        r"^(?:refactor\w*|rename|move|extract|simplify|clean\w*|reorganize|restructure|rework)\b",
    ),
    (
        "chore",
        r"\b(?:bump|upgrade|release|ci|workflow|dependenc\w*|docker\w*|lint\w*|config|gitignore|deps|version)\b",
    ),
    ("feature", r"^(?:add|support|allow|implement|introduce|enable|show|make|provide)\w*\b"),
]


def keyword_label(subject: str) -> str:
    return next((label for label, words in KEYWORDS if re.search(words, subject, re.IGNORECASE)), "chore")


def commits(split: str = "evaluation") -> list[dict[str, str]]:
    rows = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    return [row for row in rows if row["split"] == split]


def measured(truth: list[str], said: list[str]) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval, macro-F1 over the six labels, and F1 of each."""
    pairs = list(zip(truth, said, strict=True))
    n, right = len(pairs), sum(t == s for t, s in pairs)
    p, z = right / n, 1.96
    centre, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    f1 = {}
    for label in TITLES:
        both = sum(t == s == label for t, s in pairs)
        mentions = sum((t == label) + (s == label) for t, s in pairs)
        f1[label] = 2 * both / mentions if mentions else 0.0
    return {
        "commits": n,
        "accuracy": round(p, 4),
        "interval": [round((centre + sign * half) / (1 + z * z / n), 4) for sign in (-1, 1)],
        "macro_f1": round(sum(f1.values()) / len(f1), 4),
        "f1": {label: round(value, 4) for label, value in f1.items()},
    }


async def ask(name: str, rows: list[dict[str, str]], seconds: float | None) -> tuple[list[int], list[str]]:
    """The labels that the model gives, and to which rows; no new row is begun after `seconds`."""
    label_of = commit_classifier(Model(name))
    until = math.inf if seconds is None else time.monotonic() + seconds
    slots = asyncio.Semaphore(4)
    done: dict[int, str] = {}

    async def one(index: int) -> None:
        async with slots:
            if time.monotonic() < until:
                done[index] = await label_of(rows[index]["subject"])

    await asyncio.gather(*(one(index) for index in range(len(rows))))
    return list(done), list(done.values())


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a random subset, within 50 s")
    parser.add_argument("--model", action="append", help=f"may be repeated; default {DEFAULT}")
    parser.add_argument("--split", default="evaluation", choices=("evaluation", "development"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    rows = commits(options.split)
    everything = len(rows)
    random.Random(0).shuffle(rows)
    seconds = QUICK_SECONDS if options.quick else None
    rows = rows[:QUICK_COMMITS] if options.quick else rows
    results: dict[str, dict[str, Any]] = {}
    for name in options.model or [DEFAULT]:
        began = time.monotonic()
        which, said = asyncio.run(ask(name, rows, seconds))
        if options.quick:
            rows = [rows[i] for i in which]
            which = list(range(len(rows)))
        results[name] = measured([rows[i]["label"] for i in which], said)
        results[name]["seconds"] = round(time.monotonic() - began, 1)
    close()
    truth = [row["label"] for row in rows]
    commonest = Counter(truth).most_common(1)[0][0]
    results[f"always '{commonest}'"] = measured(truth, [commonest] * len(rows))
    results["key words"] = measured(truth, [keyword_label(row["subject"]) for row in rows])

    size = f"a SUBSET of {len(rows)} of {everything}" if len(rows) < everything else f"all {everything}"
    table = Table(title=f"Commit labels: {size} commits of orhun/git-cliff ({options.split})")
    for column in ("labels by", "commits", "accuracy", "95 % interval", "macro-F1", *TITLES, "seconds"):
        table.add_column(column, justify="left" if column == "labels by" else "right")
    for name, r in results.items():
        low, high = r["interval"]
        f1 = [f"{value:.2f}" for value in r["f1"].values()]
        spent = str(r.get("seconds", ""))
        table.add_row(
            name,
            str(r["commits"]),
            f"{r['accuracy']:.3f}",
            f"{low:.2f}–{high:.2f}",
            f"{r['macro_f1']:.3f}",
            *f1,
            spent,
        )
    Console(width=150).print(table)
    if options.json:
        options.json.write_text(
            json.dumps({"subset": len(rows) < everything, "labels": results}, indent=1) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
