"""Cassettes: what went over the wire to model providers, recorded once and played in tests ever after.

    with Cassette("tests/cassettes/weather.jsonl", record="once"):
        reply = await weft.model.open("https://api.openai.com/v1", "gpt-5").chat("Will it rain?")

All that goes through `weft.model.client` is kept as it came, chunk by chunk, refusals and broken connections too. While
a cassette plays, nothing reaches the network. Secrets are taken out before anything is written. The file is text, one
line for each chunk, for people to read and for version control to compare (`weft.model.cassette.tape`).
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, get_args

from weft.core.errors import BadInput
from weft.model import client
from weft.model.cassette.difference import difference
from weft.model.cassette.tape import CassetteError, Exchange, NotRecorded, Question, read, write

if TYPE_CHECKING:
    import httpx2

__all__ = ["Cassette", "CassetteError", "NotRecorded", "Record"]

Record = Literal["none", "once", "all"]


class Cassette:
    """`record`: "none" plays what is in the file; "once" records if there is no file yet, and plays otherwise; "all"
    records everything anew. Requests are told apart by method, address and body, whatever the order of a JSON object's
    keys; on this machine itself the port is free. Equal requests are answered in the order in which they were recorded.

    What was recorded is written when the block ends, all or nothing; not if it ends by an error. Raises CassetteError
    for a file that is none or is not whole, and in the block NotRecorded for a request that is not in it."""

    def __init__(self, path: str | Path, record: Record = "none") -> None:
        if record not in get_args(Record):
            raise BadInput(f"record={record!r} is no way to record; give one of {', '.join(get_args(Record))}")
        self.path = Path(path)
        self.recording = record == "all" or (record == "once" and not self.path.exists())
        self._exchanges: list[Exchange] = []
        self._left: dict[tuple[str, ...], list[Exchange]] = {}
        """Those that were not played yet, by what they answer."""
        self._lock = threading.Lock()
        self._stack: ExitStack | None = None

    def __enter__(self) -> Self:
        if self._stack is not None:
            raise BadInput(f"the cassette {self.path} is in use already; make another one")
        if not self.recording and self.path.exists():
            self._exchanges = read(self.path)
            for exchange in self._exchanges:
                self._left.setdefault(exchange.question.key, []).append(exchange)
        self._stack = ExitStack()
        self._stack.enter_context(client.intercept(self.wrap))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stack is not None:
            self._stack.close()
            self._stack = None
        if kind is None:
            self.save()

    def save(self) -> None:
        """Write what was recorded so far. The file is replaced at once, or not at all."""
        with self._lock:
            recorded = [exchange for exchange in self._exchanges if exchange.answered] if self.recording else []
        if recorded:
            write(self.path, recorded)

    def forget(self) -> None:
        """Keep nothing of what was recorded."""
        with self._lock:
            self._exchanges.clear()

    @property
    def unused(self) -> list[str]:
        """The recorded requests that nobody made, as "POST https://..."."""
        with self._lock:
            return [str(exchange.question) for exchanges in self._left.values() for exchange in exchanges]

    def wrap(self, network: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        """A transport that records what passes to this one, or plays it."""
        from weft.model.cassette.wire import Wire

        return Wire(self, network)

    # --- for the wire ---

    def begin(self, question: Question) -> Exchange:
        """A request is about to be sent: keep what comes of it in the exchange returned."""
        exchange = Exchange(question)
        with self._lock:
            self._exchanges.append(exchange)
        return exchange

    def take(self, question: Question) -> Exchange:
        """The recorded answer to this request, once. Raises NotRecorded."""
        question = question.cleaned()
        with self._lock:
            found = self._left.get(question.key)
            if found:
                return found.pop(0)
        raise NotRecorded(self._missing(question))

    def _missing(self, question: Question) -> str:
        again = "record again with record='all' (pytest: --record=all)"
        if not self.path.exists():
            return f"there is no cassette {self.path} to answer {question}; {again.replace('all', 'once')}"
        times = sum(exchange.question.key == question.key for exchange in self._exchanges)
        if times:
            return f"{question} is in the cassette {self.path} {times} times, and was made once more; {again}"
        told = f"{question} is not in the cassette {self.path}; {again}"
        return told + difference(question, [exchange.question for exchange in self._exchanges])
