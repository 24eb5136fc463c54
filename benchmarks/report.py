"""How a benchmark is told: measurements in tables, bars below them, all of it in JSON, a status for scripts.

report = Report("durable")
report.add("sequential", Measure("Weft", unit="steps/s", runs=[21_000, 23_000]))
report.bar("sequential", "at least 20,000 steps/s", reached=22_000, least=20_000)
sys.exit(report.finish(json_path))         # 1 if a bar was missed
"""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table


class Measure(msgspec.Struct, kw_only=True):
    """One system on one job. Without `runs`, `note` says why it was not measured."""

    name: str
    unit: str
    runs: list[float] = []
    note: str = ""
    """Durability class, version, what was scaled down."""
    more: dict[str, float] = {}
    """Medians of what was measured besides: CPU, memory."""

    @property
    def value(self) -> float | None:
        return median(self.runs) if self.runs else None


class Bar(msgspec.Struct, kw_only=True):
    """What must be reached: `least` <= reached, or reached <= `most`; a comparison, without either."""

    figure: str
    what: str
    reached: float | None
    least: float | None = None
    most: float | None = None
    unit: str = ""
    why: str = ""
    """What it is compared with, or which limit it meets."""
    passed: bool = False

    def __post_init__(self) -> None:
        if self.reached is not None:
            self.passed = (self.least is None or self.reached >= self.least) and (
                self.most is None or self.reached <= self.most
            )


class Report:
    """Collects the measurements and bars of one benchmark."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.time()
        self.figures: dict[str, list[Measure]] = {}
        self.bars: list[Bar] = []

    def add(self, figure: str, measure: Measure) -> None:
        self.figures.setdefault(figure, []).append(measure)

    def bar(
        self,
        figure: str,
        what: str,
        reached: float | None,
        *,
        least: float | None = None,
        most: float | None = None,
        unit: str = "",
        why: str = "",
    ) -> None:
        self.bars.append(Bar(figure=figure, what=what, reached=reached, least=least, most=most, unit=unit, why=why))

    def one(self, figure: str, name: str) -> Measure | None:
        """What was measured of this system in this figure."""
        return next((each for each in self.figures.get(figure, []) if each.name == name), None)

    def best(self, figure: str, names: Sequence[str]) -> Measure | None:
        """The largest of these systems' figures."""
        found = [each for each in self.figures.get(figure, []) if each.name in names and each.runs]
        return max(found, key=lambda each: each.value or 0, default=None)

    def against(self, figure: str, name: str, times: float | None, peers: Sequence[str], who: str) -> None:
        """The bar that `name` is `times` as fast as the best of `peers`; a comparison, without `times`."""
        ours, theirs = self.one(figure, name), self.best(figure, peers)
        ratio = ours.value / theirs.value if ours and ours.value and theirs and theirs.value else None
        why = f"{theirs.name}: {theirs.value:,.0f}/s" if theirs and theirs.value else "no peer was measured"
        what = f"{name}: × {who}" if times is None else f"{name}: at least {times} × {who}"
        self.bar(figure, what, ratio, least=times, unit="×", why=why)

    def finish(self, json_path: Path | None = None) -> int:
        """Print the tables, write the JSON; 0 if every bar was reached, else 1."""
        console = Console()
        if not console.is_terminal:
            console.width = 140
        for figure, measures in self.figures.items():
            console.print(_measures(figure, measures))
        if self.bars:
            console.print(_bars(self.bars))
        if json_path is not None:
            json_path.write_bytes(msgspec.json.format(msgspec.json.encode(self.plain())))
            console.print(f"written: {json_path}")
        return 0 if all(bar.passed for bar in self.bars) else 1

    def plain(self) -> dict[str, Any]:
        """What goes into the JSON file."""
        return {
            "benchmark": self.name,
            "began": self.began,
            "seconds": time.time() - self.began,
            "machine": machine(),
            "figures": {
                figure: [{**msgspec.to_builtins(one), "median": one.value} for one in measures]
                for figure, measures in self.figures.items()
            },
            "bars": self.bars,
        }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "command": " ".join(sys.argv[1:]),
    }


def number(value: float | None) -> str:
    """Three significant digits, thousands separated."""
    if value is None:
        return "—"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _measures(figure: str, measures: list[Measure]) -> Table:
    table = Table(title=figure, title_justify="left", title_style="bold")
    extra = list(dict.fromkeys(name for one in measures for name in one.more))
    table.add_column("system")
    table.add_column("median", justify="right")
    table.add_column("least–most", justify="right")
    for name in extra:
        table.add_column(name, justify="right")
    table.add_column("notes", overflow="fold")
    for one in measures:
        if one.value is None:
            table.add_row(one.name, "—", "", *[""] * len(extra), f"not measured: {one.note}", style="dim")
            continue
        spread = f"{number(min(one.runs))}–{number(max(one.runs))}" if len(one.runs) > 1 else ""
        more = [number(one.more.get(name)) if name in one.more else "" for name in extra]
        table.add_row(one.name, f"{number(one.value)} {one.unit}", spread, *more, one.note)
    return table


def _bars(bars: list[Bar]) -> Table:
    table = Table(title="bars", title_justify="left", title_style="bold")
    for column in ("figure", "bar", "reached", "", "against"):
        table.add_column(column, justify="right" if column == "reached" else "left", overflow="fold")
    for bar in bars:
        reached = "not measured" if bar.reached is None else f"{number(bar.reached)} {bar.unit}"
        verdict = "[green]reached[/]" if bar.passed else "[red]missed[/]"
        if bar.least is None and bar.most is None:
            verdict = "[dim]no bar[/]"
        table.add_row(bar.figure, bar.what, reached, verdict, bar.why)
    return table
