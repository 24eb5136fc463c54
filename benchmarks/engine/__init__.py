"""Benchmarks of the local engine: each part is a module with `figures(report, quick)`."""

from __future__ import annotations

import importlib

from benchmarks.report import Report


def measured(part: str, quick: bool) -> Report:
    """The figures of one part."""
    report = Report(part)
    importlib.import_module(f"benchmarks.engine.{part}").figures(report, quick)
    return report
