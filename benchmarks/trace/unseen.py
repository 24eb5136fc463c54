"""Templates of lines that nobody made for it: what programs and libraries on this machine log (`chatter`), with the
format strings that the lines were made from as the truth.

- *grouping* and *parsing*: as in `templates`, beside drain3 with six masks. Lower than on Loghub's sets for all: these
  logs are full of objects and lists as Python writes them, each of them one variable.

No data is needed; what is not installed is left out, so figures of two machines may be of other systems.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from statistics import mean

from benchmarks.report import Measure, Report
from benchmarks.trace import chatter
from benchmarks.trace.templates import by_drain3, by_weft, grouping, parsing

FEWEST = 100
"""Lines below which a system is left out."""


def figures(report: Report, directory: Path, *, quick: bool) -> None:
    systems = {}
    for name in list(chatter.PYTHON)[: 6 if quick else None]:
        lines = chatter.lines(name)
        if lines is not None and len(lines) >= FEWEST:
            systems[name] = lines
    peers = {"Weft": by_weft, "drain3 with six masks": by_drain3 if find_spec("drain3") else None}
    reached = {}
    for peer, parse in peers.items():
        if parse is None:
            report.add("grouping", Measure(name=peer, unit="", note="drain3 is not installed: weft[bench]"))
            continue
        scores = {}
        for name, lines in systems.items():
            true = [template for _, template in lines]
            ids, texts = parse([message for message, _ in lines])
            scores[name] = grouping(ids, true), parsing(texts, true)
        for place, figure in enumerate(("grouping", "parsing")):
            each = {name: one[place] for name, one in scores.items()}
            reached[peer, figure] = mean(each.values())
            note = ", ".join(f"{name} {one:.2f}" for name, one in each.items())
            report.add(figure, Measure(name=peer, unit="of lines, mean", runs=[reached[peer, figure]], note=note))
    for figure in ("grouping", "parsing"):
        theirs = reached.get(("drain3 with six masks", figure))
        more = None if theirs is None else reached["Weft", figure] - theirs
        report.bar(figure, "no less than drain3", more, least=0.0, unit="more",
                   why="no peer was measured" if theirs is None else f"drain3: {theirs:.3f}")  # fmt: skip
