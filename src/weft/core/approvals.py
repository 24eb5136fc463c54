"""Who is asked to approve what a process is about to do, for how long, and what counts if nobody answers."""

from __future__ import annotations

from typing import Literal

import msgspec

from weft.core.errors import BadInput


class Approvals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """``[policy.approvals]``. `queue`: the queue of questions. `timeout`: seconds, after which `otherwise` counts: the
    effect is refused ("never", this once), or done ("once"). `escalate_after`, `escalate_to`: seconds after which
    another queue is asked."""

    queue: str = "default"
    timeout: float | None = None
    otherwise: Literal["never", "once"] = "never"
    escalate_after: float | None = None
    escalate_to: str = ""

    def __post_init__(self) -> None:
        for name in ("timeout", "escalate_after"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 <= seconds < float("inf"):
                raise BadInput(f"approvals: {name}={seconds!r} must be a number of seconds >= 0")
        if not self.queue:
            raise BadInput("approvals: queue is a non-empty text")
        if (self.escalate_after is None) != (not self.escalate_to):
            raise BadInput("approvals: escalate_after (seconds) and escalate_to (a queue) go together")
