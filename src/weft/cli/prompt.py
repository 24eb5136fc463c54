"""Questions of the run that is executed here, while it is executed: asked at the terminal, or told on stderr.

A question may be answered elsewhere meanwhile; then the prompt goes on to the next one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from weft.core.errors import BadInput, UnknownQuestion
from weft.runtime.inbox import OpenQuestion, questions

if TYPE_CHECKING:
    from weft.cli.progress import Progress
    from weft.runtime.runtime import Runtime


class Prompt:
    """An async context manager around a run."""

    def __init__(self, runtime: Runtime, run: str, progress: Progress) -> None:
        self.runtime = runtime
        self.run = run
        self.progress = progress
        self.terminal = sys.stdin.isatty() and sys.stderr.isatty()
        self.told: dict[str, OpenQuestion] = {}
        """Those that the person knows of."""
        self.current: str | None = None
        self.answering: set[str] = set()
        """Those whose answer is on its way."""
        self._typed = b""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Prompt:
        people = self.runtime.people
        for one in await questions(self.runtime.store, process=self.run):  # of before, if it has been resumed
            people.open.setdefault(one.id, one)
        people.observers.append(self._changed)
        if self.terminal:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._key)
        self._changed()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runtime.people.observers.remove(self._changed)
        if self.terminal:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        for task in self._tasks:
            task.cancel()

    # --- what is asked -------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Something is asked, or needs no answer any more."""
        open = self.runtime.people.open
        self.answering &= open.keys()
        for id, one in open.items():
            if self.told.get(id) != one:
                self.told[id] = one
                if one.rejected:
                    self.answering.discard(id)
                if not self.terminal:
                    self._print(*self._lines(one, f"weft answer {id} …"))
        if not self.terminal:
            return
        if self.current is not None and self.current not in open:
            self._print("(no answer is needed any more)")
            self.current = None
        waiting = [one for id, one in open.items() if id not in self.answering]
        if self.current is None and waiting:
            self._show(waiting[0])
        elif self.current is None:
            self.progress.show()

    def _show(self, one: OpenQuestion) -> None:
        self.current, self._typed = one.id, b""
        self.progress.hide()
        self._print(*self._lines(one, "here, or elsewhere by `weft answer`"))
        self._ask()

    def _lines(self, one: OpenQuestion, where: str) -> list[str]:
        run = "" if one.run == self.run else f" (run {one.run})"
        lines = [f"? {one.text}{run}"]
        if one.arguments:
            lines.append(f"  arguments: {one.arguments}")
        if one.rejected:
            lines.append(f"  the last answer was none: {one.rejected}")
        return [*lines, f"  answer with {one.takes}: {where}"]

    # --- what is typed -------------------------------------------------------------------------------------

    def _key(self) -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:  # the terminal is gone
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            return
        self._typed += data
        while b"\n" in self._typed:
            line, self._typed = self._typed.split(b"\n", 1)
            self._line(line.decode(errors="replace").strip())

    def _line(self, text: str) -> None:
        one = None if self.current is None else self.runtime.people.open.get(self.current)
        if one is None:
            return
        if not text:
            self._ask()
            return
        try:
            value = one.read(text)
        except BadInput as error:
            self._print(str(error))
            self._ask()
            return
        self.answering.add(one.id)
        self.current = None
        task = asyncio.ensure_future(self._answer(one.id, value))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._changed()

    async def _answer(self, id: str, value: object) -> None:
        from weft.cli.host import me

        try:
            await self.runtime.answer(id, value, who=me())
        except (UnknownQuestion, BadInput) as error:
            self._print(str(error))

    def _ask(self) -> None:
        print("> ", end="", file=sys.stderr, flush=True)

    def _print(self, *lines: str) -> None:
        print("\n".join(lines), file=sys.stderr, flush=True)
