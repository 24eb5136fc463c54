"""What a call needs of the machine, and what it took: `Resources(memory="512M", cpu=0.5, seconds=120)`, `Usage`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from weft.core.errors import BadInput

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

OnLimit = Literal["pause", "kill"]


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may take. None: not limited.

    `cpu`: cores (on Ray: those it is given; None: one). `memory`, `disk`: bytes, or a text such as "512M" or "8G";
    `disk` counts what is written. `pids`: processes and threads at once. `seconds`: wall time, without that in which
    it was paused. `on_limit`: at its memory limit, "kill" ends it (OverMemory), "pause" lets it wait until the
    machine has more to lend than others were promised; at its limit of processes, "kill" ends it, "pause" refuses it
    further ones. `gpu`: devices; a part of one may be shared. `custom`: what a cluster calls by names of its own.

    Raises BadInput for amounts that are none."""

    cpu: float | None = None
    memory: int | None = None
    gpu: float = 0
    custom: Mapping[str, float] = {}
    pids: int | None = None
    seconds: float | None = None
    disk: int | None = None
    on_limit: OnLimit = "kill"

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            cpu: float | None = None,
            memory: int | str | None = None,
            gpu: float | None = 0,
            custom: Mapping[str, float] = {},
            pids: int | None = None,
            seconds: float | None = None,
            disk: int | str | None = None,
            on_limit: OnLimit = "kill",
        ) -> None: ...

    def __post_init__(self) -> None:
        checked = {
            "cpu": _maybe("cpu", self.cpu, _amount),
            "memory": _maybe("memory", self.memory, _bytes),
            "gpu": 0 if self.gpu is None else _amount("gpu", self.gpu),
            "pids": _maybe("pids", self.pids, _whole),
            "seconds": _maybe("seconds", self.seconds, _above),
            "disk": _maybe("disk", self.disk, _bytes),
        }
        if checked["gpu"] > 1 and checked["gpu"] != int(checked["gpu"]):
            raise BadInput(f"resources={{'gpu': {self.gpu!r}}}: more than one gpu are whole ones")
        if not isinstance(self.custom, Mapping) or not all(isinstance(name, str) for name in self.custom):
            raise BadInput(f"resources={{'custom': {self.custom!r}}}: custom must be a mapping from names to amounts")
        checked["custom"] = {name: _amount(name, amount) for name, amount in self.custom.items()}
        if self.on_limit not in ("pause", "kill"):
            raise BadInput(f"resources={{'on_limit': {self.on_limit!r}}}: must be 'pause' or 'kill'")
        for name, value in checked.items():
            msgspec.structs.force_setattr(self, name, value)


LONG = 1.0
"""Seconds of a pause that a caller is told of."""


class Paused(msgspec.Struct, frozen=True):
    """A call did not get on for `seconds` of `of`, because the machine had no memory for it. As a text it says what to
    do differently."""

    seconds: float
    of: float

    def __str__(self) -> str:
        return (
            f"it was paused for {self.seconds:.3g} s of {self.of:.3g} s, because memory was short on this machine: run "
            f"less at once, or what takes less"
        )


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a call took. `seconds`: wall time, of which it was paused for `paused_seconds`. `memory_peak`: bytes at most
    at once, with the file cache that it filled where a control group counted it. `read_bytes`, `written_bytes`: of
    storage. `pids_peak`: processes and threads at most at once. `pressure`: seconds in which something in it waited
    for memory."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids_peak: int = 0
    paused_seconds: float = 0.0
    pressure: float = 0.0

    @property
    def paused(self) -> Paused | None:
        """Its pauses, if they were long enough to tell of."""
        return Paused(self.paused_seconds, self.seconds) if self.paused_seconds >= LONG else None

    def and_then(self, after: Usage) -> Usage:
        """Of two calls of one step: times and bytes in all, the larger of their peaks."""
        return Usage(
            seconds=self.seconds + after.seconds,
            cpu_seconds=self.cpu_seconds + after.cpu_seconds,
            memory_peak=max(self.memory_peak, after.memory_peak),
            read_bytes=self.read_bytes + after.read_bytes,
            written_bytes=self.written_bytes + after.written_bytes,
            pids_peak=max(self.pids_peak, after.pids_peak),
            paused_seconds=self.paused_seconds + after.paused_seconds,
            pressure=self.pressure + after.pressure,
        )

    def since(self, before: Usage) -> Usage:
        """What came after an earlier look at the same processes. Their peaks are those of the whole time."""
        return Usage(
            seconds=self.seconds - before.seconds,
            cpu_seconds=self.cpu_seconds - before.cpu_seconds,
            memory_peak=self.memory_peak,
            read_bytes=self.read_bytes - before.read_bytes,
            written_bytes=self.written_bytes - before.written_bytes,
            pids_peak=self.pids_peak,
            paused_seconds=self.paused_seconds - before.paused_seconds,
            pressure=self.pressure - before.pressure,
        )


def resources_of(given: Mapping[str, Any] | Resources | None) -> Resources | None:
    """The declared resources. Raises BadInput for unknown names, bad amounts, and memory that is no size."""
    if given is None or isinstance(given, Resources):
        return given
    if not isinstance(given, Mapping):
        raise BadInput(f'resources={given!r}: give a mapping like {{"cpu": 4, "memory": "8G", "gpu": 1}}')
    unknown = set(given) - set(Resources.__struct_fields__)
    if unknown:
        raise BadInput(
            f"resources={dict(given)!r}: no such resource: {', '.join(sorted(map(str, unknown)))}; there are "
            f"{', '.join(Resources.__struct_fields__)} (a cluster's own ones go under 'custom')"
        )
    return Resources(**given)


def _maybe(name: str, value: Any, check: Any) -> Any:
    return None if value is None else check(name, value)


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadInput(f"resources={{{name!r}: {value!r}}}: must be a number >= 0")
    return value


def _above(name: str, value: Any) -> float:
    if _amount(name, value) == 0:
        raise BadInput(f"resources={{{name!r}: {value!r}}}: must be > 0")
    return float(value)


def _whole(name: str, value: Any) -> int:
    if _amount(name, value) != int(value) or value < 1:
        raise BadInput(f"resources={{{name!r}: {value!r}}}: must be a whole number >= 1")
    return int(value)


def _bytes(name: str, value: Any) -> int:
    """Bytes of 8589934592, "8G", "8GB" or "8GiB", all the same: units are powers of 1024."""
    if isinstance(value, str) and (size := _SIZE.fullmatch(value.strip())):
        return int(float(size[1]) * _UNITS[size[2].lower()])
    if isinstance(value, str):
        raise BadInput(f"resources={{{name!r}: {value!r}}}: give bytes, or a text such as '512M' or '8G'")
    return int(_amount(name, value))
