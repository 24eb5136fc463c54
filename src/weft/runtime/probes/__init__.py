"""Probes: what a running program does, seen without changing it (Wizard, arXiv 2403.07973)."""

from weft.runtime.probes.asked import MONITORS, Probe, monitor
from weft.runtime.probes.monitors import Monitor
from weft.runtime.probes.published import published
from weft.runtime.probes.wasm import instrument, observe

__all__ = ["MONITORS", "Monitor", "Probe", "instrument", "monitor", "observe", "published"]
