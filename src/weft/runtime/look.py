"""One look at the store at a time, and one more if somebody asked meanwhile: no hint gets lost, and none queue up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from weft.core.errors import StoreError

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime


class Look:
    """`work` looks at the store and does what it finds; a StoreError of it goes to `failed` (default: `Runtime.fault`,
    after which all is looked at again)."""

    def __init__(
        self,
        runtime: Runtime,
        work: Callable[[], Awaitable[None]],
        failed: Callable[[StoreError], None] | None = None,
    ) -> None:
        self.runtime = runtime
        self._work = work
        self._failed = failed or runtime.fault
        self._under_way = False
        self._again = False

    def ask(self) -> None:
        """There may be something to see."""
        self._again = True
        if not self._under_way:
            self._under_way = True
            self.runtime.task(self._run())

    async def _run(self) -> None:
        try:
            while self._again and not self.runtime.closing:
                self._again = False
                await self._work()
        except StoreError as error:
            self._failed(error)
        finally:
            self._under_way = False
