"""Where the system has no /proc, there are no groups: a call is neither limited nor counted there, only timed."""

from __future__ import annotations

import time

from weft.core.resources import Resources, Usage
from weft.runtime.governor.group import Reason


class Unwatched:
    """Implements `Group`. Whoever started the call ends it: by its process group, as far as that reaches."""

    def __init__(self, name: str, resources: Resources) -> None:
        self.name = name
        self.resources = resources
        self.enter: list[str] = []
        self._began = time.monotonic()

    def usage(self) -> Usage:
        return Usage(seconds=time.monotonic() - self._began)

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...

    def why_ended(self) -> Reason | None:
        return None
