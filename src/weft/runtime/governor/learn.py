"""What a call will need, from what its like took: the 95th percentile of past peaks, and a fifth more.

Calls are alike if they use the same tool with the same template of a command: `pytest tests/test_a.py -q` and `pytest
tests/test_b.py` are, `pytest` and `git status` are not. The same tool varies thirteenfold by command (AgentCgroup,
arXiv 2602.09345, section 3), a command much less. The peaks come from journals, where each outcome has its usage."""

from __future__ import annotations

import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from weft.core.record import Outcome
from weft.core.resources import Resources, Usage

ENOUGH = 3
"""Peaks from which something can be learned."""
KEPT = 100
"""Peaks of each template that count: the last."""
LEAST = 32 * 2**20
"""Bytes under which no limit is learned: an interpreter may start later than usual."""
MARGIN = 1.2
_PART = re.compile(r"[A-Za-z][A-Za-z_-]*")


def expected(peaks: Iterable[int]) -> int:
    """Bytes: the 95th percentile (nearest rank) times 1.2. Raises ValueError without peaks."""
    ordered = sorted(peaks)
    if not ordered:
        raise ValueError("nothing is known of it")
    return math.ceil(ordered[math.ceil(0.95 * len(ordered)) - 1] * MARGIN)


def template(argv: Sequence[str]) -> str:
    """The command and the words that say what it does; not files, numbers and options."""
    if not argv:
        return ""
    program = argv[0].rpartition("/")[2]
    words = [word for word in argv[1:3] if _PART.fullmatch(word)]
    return " ".join([program, *words[:1]])


class Peaks:
    """What calls took, by tool and template. Of one runtime; a new one reads it from journals with `take`."""

    def __init__(self) -> None:
        self._peaks: dict[tuple[str, str], deque[int]] = {}
        self._lock = threading.Lock()

    def take(self, tool: str, argv: Sequence[str], usage: Usage) -> None:
        """Learn from a call that ended by itself; one that was ended shows what it may have, not what it needs."""
        with self._lock:
            self._peaks.setdefault((tool, template(argv)), deque(maxlen=KEPT)).append(usage.memory_peak)

    def memory(self, tool: str, argv: Sequence[str]) -> int | None:
        """Bytes that such a call will need; None while too little is known."""
        with self._lock:
            peaks = list(self._peaks.get((tool, template(argv)), ()))
        return max(LEAST, expected(peaks)) if len(peaks) >= ENOUGH else None


peaks = Peaks()
"""What this process has seen."""


def past(outcomes: Iterable[Outcome], argv: Callable[[Outcome], Sequence[str] | None]) -> Peaks:
    """What journals tell: `argv` gives the command of a step's outcome, or None for one that is to be left out."""
    found = Peaks()
    for one in outcomes:
        if one.usage is not None and one.ok and (words := argv(one)) is not None:
            found.take(one.name, words, one.usage)
    return found


def settled(
    declared: Resources | None, hinted: Resources | None, learned: int | None = None, default: Resources | None = None
) -> Resources:
    """What a call may take. Each amount from the first that says it: what the agent asks for, but never more than the
    tool's declaration; the declaration; what was learned (memory only); the default.

    What was learned is no wall: a call that needs more than its like waits until the machine can lend it."""
    declared, hinted, default = declared or Resources(), hinted or Resources(), default or Resources()
    amounts: dict[str, float | None] = {}
    for name in ("cpu", "memory", "pids", "seconds", "disk"):
        most, asked = getattr(declared, name), getattr(hinted, name)
        if asked is not None and most is not None:
            asked = min(asked, most)
        amounts[name] = next((one for one in (asked, most) if one is not None), getattr(default, name))
    said = hinted.memory is not None or declared.memory is not None
    if amounts["pids"] is not None and declared.on_limit == "kill":
        learned = None  # to wait at its memory would be to wait at its processes, which it is to be ended for
    if not said and learned is not None:
        amounts["memory"] = learned
    on_limit = "pause" if not said and learned is not None else declared.on_limit
    if hinted.on_limit == "pause":
        on_limit = "pause"
    return Resources(**amounts, on_limit=on_limit, gpu=declared.gpu, custom=declared.custom)  # type: ignore[arg-type]
