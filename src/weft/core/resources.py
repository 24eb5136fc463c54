"""What a heavy step needs of the machine that runs it: `resources={"cpu": 4, "memory": "8G", "gpu": 1}`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from weft.core.errors import BadInput

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """`cpu`: cores (None: the executor's default, one). `memory`: bytes. `gpu`: devices; a part of one may be
    shared. `custom`: what a cluster calls by names of its own."""

    cpu: float | None = None
    memory: int | None = None
    gpu: float = 0
    custom: Mapping[str, float] = {}


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
    custom = given.get("custom", {})
    if not isinstance(custom, Mapping) or not all(isinstance(name, str) for name in custom):
        raise BadInput(f"resources={dict(given)!r}: custom must be a mapping from names to amounts")
    gpu = 0 if given.get("gpu") is None else _amount("gpu", given["gpu"])
    if gpu > 1 and gpu != int(gpu):
        raise BadInput(f"resources={{'gpu': {gpu!r}}}: more than one gpu are whole ones")
    return Resources(
        cpu=None if given.get("cpu") is None else _amount("cpu", given["cpu"]),
        memory=None if given.get("memory") is None else _bytes(given["memory"]),
        gpu=gpu,
        custom={name: _amount(name, amount) for name, amount in custom.items()},
    )


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadInput(f"resources={{{name!r}: {value!r}}}: must be a number >= 0")
    return value


def _bytes(value: Any) -> int:
    """Bytes of 8589934592, "8G", "8GB" or "8GiB", all the same: units are powers of 1024."""
    if isinstance(value, str) and (size := _MEMORY.fullmatch(value.strip())):
        return int(float(size[1]) * _UNITS[size[2].lower()])
    if isinstance(value, str):
        raise BadInput(f"resources={{'memory': {value!r}}}: give bytes, or a text such as '512M' or '8G'")
    return int(_amount("memory", value))
