"""The two sides of a chat at the terminal: what is typed goes to the run, what happens there is shown.

Lines are read in a thread, so that words, answers to questions and ctrl-C are heard while the agent works. Without a
terminal one line waits for the one before it to be answered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from weft.agent.chat import Asked, ChatEvent, Stands, orders, watchers
from weft.agent.conversation import said
from weft.agent.event import Compacted, Ended, Heard, Modelled, Returned
from weft.core.content import ToolResult
from weft.core.errors import BadInput, UnknownQuestion
from weft.model.event import Called, Restarted, TextDelta
from weft.runtime.inbox import OpenQuestion, questions

if TYPE_CHECKING:
    from weft.agent.answer import Answer
    from weft.runtime.handle import Run
    from weft.runtime.runtime import Runtime

FOLD = 100
"""Characters of a call or a result that are shown."""
HELP = "/history  /cost  /undo  /quit; ctrl-C stops the agent, twice leaves"


class Talk:
    """One sitting. `idle`: the agent waits for words."""

    def __init__(self, runtime: Runtime) -> None:
        from rich.console import Console

        self.runtime = runtime
        self.terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self.console = Console(highlight=False, soft_wrap=True)
        self.run = ""
        self.idle = False
        self.left = asyncio.Event()
        self.lines: deque[str | None] = deque()
        """Typed, and not said yet; None is the end."""
        self.stands = Stands([])
        self.spent: list[Answer[Any]] = []
        self.interrupts = 0
        self.spoken = False
        """Something was said in this sitting: what is replayed from now on was shown."""
        self.middle = False
        """The cursor is in the middle of a line."""
        self.asked: OpenQuestion | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def through(self, start: Callable[[Runtime], Awaitable[Run[Any]]]) -> bool:
        """See it through, until the person leaves (True) or the chat is over."""
        loop = asyncio.get_running_loop()
        held: list[tuple[ChatEvent, bool]] = []

        def note(event: ChatEvent, replaying: bool) -> None:
            held.append((event, replaying))
            loop.call_soon(self._show_all, held)

        handle = await self._watched(start, note)
        people = self.runtime.people
        for one in await questions(self.runtime.store, process=self.run):
            people.open.setdefault(one.id, one)
        people.observers.append(self._questions)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        end = asyncio.ensure_future(handle.result())
        leave = asyncio.ensure_future(self.left.wait())
        try:
            await asyncio.wait({end, leave}, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                end.result()
                return False
            return self.interrupts > 1
        finally:
            end.cancel()
            leave.cancel()
            loop.remove_signal_handler(signal.SIGINT)
            people.observers.remove(self._questions)
            watchers.pop(self.run, None)
            self._line()
            print(f"go on with: weft chat --resume {self.run}", file=sys.stderr)

    async def _watched(
        self, start: Callable[[Runtime], Awaitable[Run[Any]]], note: Callable[[ChatEvent, bool], None]
    ) -> Run[Any]:
        """The run, of which no event is missed: it begins only when this task waits."""
        handle = await start(self.runtime)
        self.run = handle.id
        watchers[self.run] = note
        print(f"chat {self.run}; {HELP}", file=sys.stderr, flush=True)
        return handle

    # --- what happens -----------------------------------------------------------------------------------------------

    def _show_all(self, held: list[tuple[ChatEvent, bool]]) -> None:
        while held:
            event, replaying = held.pop(0)
            if not (replaying and self.spoken):
                self._show(event, replaying)

    def _show(self, event: ChatEvent, replaying: bool) -> None:
        match event:
            case Asked(words):
                self.idle = False
                if replaying or not self.terminal or not self.spoken:  # said here, it is on the screen already
                    self._line(f"> {words}")
            case Modelled(TextDelta(text)):
                self._words(text)
            case Modelled(Restarted()):
                self._line("(it begins anew)", "dim")
            case Modelled(Called(_, call)):
                self._line(folded(f"· {call.name} {call.arguments}"), "cyan")
            case Returned(result):
                self._result(result)
            case Compacted(id):
                self._line(f"(older turns make room for what stands for them: {id})", "dim")
            case Heard(message) if replaying or not self.terminal:
                self._line(f"> {message.text}")
            case Ended(answer):
                self.spent.append(answer)
                if not isinstance(answer.output, str):
                    self._line()
                if answer.ended != "done":
                    self._line(f"({answer.ended})", "dim")
            case Stands(_, why):
                self.stands, self.idle, self.interrupts = event, True, 0
                self._line(f"({why})" if why else "", "dim")
                self._ready()

    def _words(self, text: str) -> None:
        self.console.print(text, end="", markup=False)
        self.middle = not text.endswith("\n") if text else self.middle
        self.console.file.flush()

    def _result(self, result: ToolResult) -> None:
        text = f"failed: {result.text}" if result.error else result.text
        self._line(f"  {folded(text)}", "red" if result.error else "dim")

    def _line(self, text: str = "", style: str = "") -> None:
        """A line of its own; without one, an end to the words before."""
        if self.middle:
            self.console.print()
            self.middle = False
        if text:
            self.console.print(text, style=style, markup=False)

    def _ready(self) -> None:
        if self.terminal and not self.lines:
            print("> ", end="", flush=True)
        self._next()

    # --- what is asked ----------------------------------------------------------------------------------------------

    def _questions(self) -> None:
        waiting = list(self.runtime.people.open.values())
        if self.asked is not None and any(one == self.asked for one in waiting):
            return
        self.asked = waiting[0] if waiting else None
        if self.asked is not None:
            self._line(f"? {self.asked.text}", "yellow")
            if self.asked.rejected:
                self._line(f"  the last answer was none: {self.asked.rejected}")
            print(f"  {self.asked.takes} [y/n] " if self.terminal else f"  {self.asked.takes}", end="", flush=True)
            self.middle = True
            self._next()

    def _answer(self, one: OpenQuestion, text: str) -> None:
        from weft.cli.host import me

        try:
            value = one.read(text)
        except BadInput as error:
            self._line(str(error))
            return

        async def send() -> None:
            try:
                await self.runtime.answer(one.id, value, who=me())
            except (UnknownQuestion, BadInput) as error:
                self._line(str(error))

        self.asked = None
        self.middle = False
        self._task(send())

    # --- what is typed ----------------------------------------------------------------------------------------------

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lines of stdin, in a thread; by `os.read`, which holds no lock when the program ends."""
        typed = b""
        while data := os.read(0, 4096):
            typed += data
            *lines, typed = typed.split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(self._typed, line.decode(errors="replace").strip())
        if typed.strip():
            loop.call_soon_threadsafe(self._typed, typed.decode(errors="replace").strip())
        loop.call_soon_threadsafe(self._typed, None)

    def _typed(self, line: str | None) -> None:
        self.lines.append(line)
        self.middle = False if self.terminal else self.middle
        self._next()

    def _next(self) -> None:
        """Take the next line, if it is time for it."""
        while self.lines and (self.terminal or self.idle or self.asked is not None):
            line = self.lines.popleft()
            if line is None:
                self.left.set()
            elif not line:
                continue
            elif self.asked is not None:
                self._answer(self.asked, line)
            elif line.startswith("/"):
                self._command(line)
            else:
                self.spoken, self.idle = True, False
                self._task(self.runtime.send(self.run, said.name, line))

    def _command(self, line: str) -> None:
        match line.split()[0]:
            case "/quit":
                self.left.set()
                return
            case "/history":
                for message in self.stands.messages:
                    if text := message.text or ", ".join(f"· {call.name}" for call in message.calls):
                        self._line(f"{message.role}: {text}")
            case "/cost":
                self._line(self._cost())
            case "/undo":
                self.spoken, self.idle = True, False
                self._task(self.runtime.send(self.run, orders.name, "undo"))
                return
            case other:
                self._line(f"there is no {other}; {HELP}")
        if self.terminal:
            print("> ", end="", flush=True)

    def _cost(self) -> str:
        if not self.spent:
            return "nothing yet"
        last = self.spent[-1]  # a conversation's answers count from its beginning
        money = "price not known" if last.money is None else f"{last.money:.4f} US dollars"
        return f"{last.turns} turns, {last.usage.input:,} tokens in, {last.usage.output:,} out, {money}"

    def _interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            self.left.set()
        elif self.idle:
            self._line()
            self._line("(ctrl-C again leaves)", "dim")
        else:
            self.spoken = True
            self._task(self.runtime.send(self.run, orders.name, "stop"))

    def _task(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def folded(text: str) -> str:
    """Its first line, and how much more there is."""
    first, *more = text.splitlines() or [""]
    first = first if len(first) <= FOLD else f"{first[:FOLD]}…"
    return f"{first} (and {len(more)} more lines)" if more else first
