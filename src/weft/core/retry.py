"""How often a failed step is tried again, and how long it waits in between."""

from __future__ import annotations

import msgspec

from weft.core.errors import BadInput


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Repeat a failed step: up to `attempts` in all, waiting `delay * backoff**n` seconds (at most `max_delay`)
    between them, each wait stretched or shortened by up to the fraction `jitter`; only for errors in `on`."""

    attempts: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.1
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0 or self.backoff < 1 or self.max_delay < 0 or not 0 <= self.jitter <= 1:
            raise BadInput(
                f"{self!r}: attempts must be >= 1, delay and max_delay >= 0 s, backoff >= 1, jitter between 0 and 1"
            )

    def wait(self, attempt: int, draw: float) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1); `draw` is uniform in [0, 1)."""
        seconds = min(self.delay * self.backoff ** (attempt - 1), self.max_delay)
        return seconds * (1 + self.jitter * (2 * draw - 1))
