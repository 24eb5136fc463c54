"""How well `examples/ask_repository.py` finds what a repository says: python -m benchmarks.ask [--quick] [--json FILE]

Forty questions about this repository, made up by one who knows it: for half of them there is a file that answers, the
others are about what it does not have, some of them close by. How near is near enough was chosen on the first half of
both; the figures are of the other half. Right is an answer whose first (or one of its four) passages is in that file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import Measure, Report

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))  # the example has the same name here as when it is run as a script

import weft  # noqa: E402

QUESTIONS = json.loads((ROOT / "benchmarks/data/questions.json").read_text())
KNOWN = [(one["question"], one["files"]) for one in QUESTIONS if one["files"]][10:]
UNKNOWN = [one["question"] for one in QUESTIONS if not one["files"]][10:]
"""Those that nothing was chosen by."""


async def found(runtime: weft.Runtime, question: str) -> dict[str, Any]:
    """What the example says."""
    from ask_repository import ask_repository

    answer = await runtime.run(ask_repository, question, str(ROOT))
    return {"known": answer.known, "files": [one.rpartition(":")[0].rpartition("/")[2] for one in answer.sources]}


async def measure(quick: bool) -> dict[str, Measure]:
    """What comes of them."""
    known, unknown = (KNOWN[:4], UNKNOWN[:4]) if quick else (KNOWN, UNKNOWN)
    rights = weft.Policy(allow=(f"read:'{ROOT}'", "model:**"))
    with tempfile.TemporaryDirectory() as folder:
        async with weft.Runtime(str(Path(folder, "journal.db")), policy=rights) as runtime:
            answers = [(await found(runtime, question), files) for question, files in known]
            others = [await found(runtime, question) for question in unknown]
    for (question, _), (answer, _) in zip(known, answers, strict=True):
        print(f"{question}: {answer['files']}", file=sys.stderr)
    figures = {
        "first passage in the right file": [answer["files"][:1] and answer["files"][0] in ok for answer, ok in answers],
        "one of four in the right file": [any(one in ok for one in answer["files"]) for answer, ok in answers],
        "says that it is known": [answer["known"] for answer, _ in answers],
        "of what is not there: says so": [not answer["known"] for answer in others],
    }
    return {
        name: Measure(name=name, unit="%", runs=[100 * sum(map(bool, hits)) / len(hits)], note=f"of {len(hits)}")
        for name, hits in figures.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="eight questions")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    given = parser.parse_args()
    report = Report("ask")
    figures = asyncio.run(measure(given.quick))
    for one in figures.values():
        report.add("questions about this repository", one)
    for name, least in (("one of four in the right file", 70.0), ("of what is not there: says so", 70.0)):
        report.bar("questions about this repository", name, figures[name].value, least=least, unit="%")
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())
