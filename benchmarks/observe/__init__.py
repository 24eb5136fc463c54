"""Seeing what happened: `python -m benchmarks.observe`."""

from __future__ import annotations

from importlib import import_module

from benchmarks.report import Report


def measured(name: str, quick: bool = False) -> Report:
    """The figures of one part."""
    report = Report(name)
    import_module(f"benchmarks.observe.{name}").measure(report, quick=quick)
    return report
