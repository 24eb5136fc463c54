"""What a turn of an agent brought, by what it called and what came of that.

A turn brings the agent on if it reads something that was not seen before, changes something, or lets more tests pass.
It does not if its calls fail, or repeat calls whose results are known. The pace of an agent (`weft.agent.pace`) asks
this while it runs, and the report of its turns (`weft.trace.turns`) afterwards, so both mean the same by a wasted turn.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.core.record import content_hash

_PASSED = re.compile(r"\b(\d+) (?:passed|passing)\b")
_FAILED = re.compile(r"\b(\d+) (?:failed|failing)\b|\b(?:failures|errors)=(\d+)")
_ERRORS = re.compile(r"\b(\d+) errors?\b")
_UNITTEST = re.compile(r"^Ran (\d+) tests? in ", re.M)


class Made(msgspec.Struct, frozen=True):
    """A call that was made. `changes`: whether it may leave something behind; `text`: what the model was told."""

    name: str
    arguments: Any
    text: str
    error: bool = False
    changes: bool = False


class Signs(msgspec.Struct, frozen=True):
    """What one turn brought. `found`: results that were not seen before; `changed`: calls that left something behind;
    `passed`: more tests pass than before, or fewer fail; `failed`, `repeated`: calls that came to nothing, and calls
    that were made before, with the same result and nothing changed since. `clean`: the last tests that ran all passed,
    and nothing was changed since."""

    calls: int = 0
    found: int = 0
    changed: int = 0
    passed: bool = False
    failed: int = 0
    repeated: int = 0
    clean: bool = False

    @property
    def productive(self) -> bool:
        """Whether it brought the agent on at all."""
        return self.found > 0 or self.changed > 0 or self.passed


class Progress:
    """Of one agent, turn after turn."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}
        """Digests of calls since the last change -> of what came of them."""
        self._done: set[bytes] = set()
        """Digests of calls that changed something."""
        self._seen: set[bytes] = set()
        """Digests of results."""
        self._tests = (0, math.inf)
        """The most that passed, and the number that failed the last time."""
        self._clean = False

    def saw(self, calls: Iterable[Made]) -> Signs:
        """What these calls of one turn brought."""
        count = found = changed = failed = repeated = 0
        passed = False
        for call in calls:
            count += 1
            key, result = _digest([call.name, call.arguments]), _digest(call.text)
            before = self._known.get(key)
            self._known[key] = result
            if before == result or (call.changes and key in self._done and result in self._seen):
                repeated += 1
            elif call.error:
                failed += 1
            else:
                found += result not in self._seen
                changed += call.changes
                if call.changes:
                    self._change(key, result)
            self._seen.add(result)
            passed |= self._tested(call.text)
        return Signs(count, found, changed, passed, failed, repeated, self._clean)

    def _change(self, key: bytes, result: bytes) -> None:
        self._done.add(key)
        self._known = {key: result}
        self._clean = False

    def _tested(self, text: str) -> bool:
        """Whether these are results of tests, better than those before."""
        ran = outcome(text)
        if ran is None:
            return False
        most, last = self._tests
        better = ran[0] > most or ran[1] < last < math.inf
        self._tests = (max(most, ran[0]), ran[1])
        self._clean = ran[0] > 0 and not ran[1]
        return better


def outcome(text: str) -> tuple[int, int] | None:
    """How many tests passed and failed, as pytest, unittest, jest, mocha and cargo say it; None if none ran."""
    passed = [int(found) for found in _PASSED.findall(text)]
    failed = [int(one or other) for one, other in _FAILED.findall(text)]
    ran = [int(found) for found in _UNITTEST.findall(text)]
    if not passed and not failed and not ran:
        return None
    broken = sum(failed) + (0 if ran else sum(int(found) for found in _ERRORS.findall(text)))
    return (max(0, sum(ran) - broken) if ran else sum(passed)), broken


def nearest_rank(values: Sequence[float], percentile: float) -> float:
    """The smallest of the values that at least so many per cent of them do not exceed. Raises BadInput without values,
    and for a percentile that is not above 0 and at most 100."""
    if not 0 < percentile <= 100:
        raise BadInput(f"percentile={percentile!r}: give a number above 0, at most 100")
    if not values:
        raise BadInput("there is no percentile of no values: no past run was found")
    return sorted(values)[math.ceil(percentile / 100 * len(values)) - 1]


def _digest(value: Any) -> bytes:
    return content_hash(json.dumps(value, sort_keys=True, default=str).encode())
