"""How far a program may go."""

from __future__ import annotations

import msgspec

from weft.core.errors import BadInput, WeftError


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds`: of its own work, without the time that it waits; `memory`: bytes of its values; `calls`: of tools, in
    all; `at_once`: of those, how many at the same time; `sleep`: seconds of one sleep; `kept`: bytes of its values that
    are written down while it waits, all waits together; `output`: characters that it prints which are kept; `length`:
    characters of its text. Raises BadInput for what is not above 0."""

    seconds: float = 20.0
    memory: int = 64 * 2**20
    calls: int = 1000
    at_once: int = 100
    sleep: float = 31 * 86400.0
    kept: int = 256 * 2**20
    output: int = 40_000
    length: int = 100_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            given = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
                raise BadInput(f"Limits({name}={given!r}): give a number above 0")


class ProgramFailed(WeftError):
    """A program was refused before it ran, or failed, or went too far; the message says where, and what to do."""
