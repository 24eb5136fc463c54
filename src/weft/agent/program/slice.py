"""A program from one wait to the next, in the embedded Python: the effects that a program's course is made of.

`begin` checks its text against the declarations of its tools and runs it until all of it waits; `go_on` gives it what
came meanwhile, and so on. In between the program is bytes: it holds no worker, and may wait for days. Both are pure:
its clock is given (it stands still within a slice), its chance is seeded, and its calls go to whoever drives it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from weft.agent.program.limits import Limits
from weft.agent.program.plain import NotPlain, plain, shown
from weft.agent.program.stub import HEADER
from weft.agent.program.telling import NAME, limited, problems, traced
from weft.core.codec import encode
from weft.core.errors import SandboxMissing
from weft.core.resources import Resources
from weft.core.step import Step, primitive
from weft.runtime.sandbox import Job, choose
from weft.runtime.sandbox.monty import Monty

if TYPE_CHECKING:
    from pydantic_monty import AsyncMontySession

SLEEP = "asyncio.sleep"
"""The name of the call by which a program sleeps."""
GRACE = 30.0
"""Seconds that a slice may take besides the program's own, for checking its text and for calls back and forth."""
ROUNDS = 20_000
"""How often a program may turn to its host in one slice (each call, and each look at the clock)."""

Outcome = tuple[Literal["value"], Any] | tuple[Literal["error"], str]
"""What came of a call: its value, or the words of its failure."""


class Called(msgspec.Struct, frozen=True):
    """A call that the program makes, in this line of it."""

    id: int
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    line: int


class Slice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it did. It waits for `calls`, these and those before, and goes on from `state`; or it has `ended`. `told`:
    of a failure, where and why. `dropped`: characters that it printed beyond its limit."""

    printed: str = ""
    dropped: int = 0
    calls: tuple[Called, ...] = ()
    state: bytes = b""
    digest: str = ""
    ended: Literal["", "done", "refused", "failed"] = ""
    value: Any = None
    told: str = ""


class Text(msgspec.Struct, frozen=True):
    """A program to run. `names`: what it may call; `stubs`: their declarations; `inputs`: what it finds as `inputs`."""

    source: str
    names: tuple[str, ...]
    stubs: str
    limits: Limits
    inputs: dict[str, Any] | None = None


class Spent(NamedTuple):
    """How far a program has gone of its limits: calls, characters that it printed, bytes that were written down."""

    calls: int = 0
    printed: int = 0
    kept: int = 0


def begin(text: Text, seed: float, at: float) -> tuple[Step[..., Any], tuple[Any, ...]]:
    """The step that begins it, and its arguments. `at`: seconds since 1970 that its clock shows."""

    @primitive(name="program.begin", effect="pure", needs=())
    async def first(source: str, names: Sequence[str], seed: float, at: float) -> Slice:
        return await Sliced(text, at, Spent()).first(seed)

    return first, (text.source, text.names, seed, at)


def go_on(
    text: Text, before: Slice, outcomes: Mapping[int, Outcome], at: float, spent: Spent
) -> tuple[Step[..., Any], tuple[Any, ...]]:
    """The step that goes on from there. What the calls came to is in the journal already: of that the arguments hold
    digests."""

    @primitive(name="program.go_on", effect="pure", needs=())
    async def next(state: str, outcomes: dict[int, str], at: float) -> Slice:
        return await Sliced(text, at, spent).next(before, given)

    given = dict(sorted(outcomes.items()))
    digests = {id: digest_of(encode(outcome)) for id, outcome in given.items()}
    return next, (before.digest, digests, at)


def digest_of(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Sliced:
    """One slice being run."""

    def __init__(self, text: Text, at: float, spent: Spent) -> None:
        self.text = text
        self.at = at
        self.called: list[Called] = []
        self.left = text.limits.calls - spent.calls
        self.room = max(0, text.limits.output - spent.printed)
        self.space = text.limits.kept - spent.kept
        self.dropped = 0
        self.lines: list[str] = []

    async def first(self, seed: float) -> Slice:
        """From its begin."""
        policy = {"datetime": "call_host", "sleep": "call_host", "random_start": {"seed": seed}}
        inputs = self.text.inputs
        stubs = f"{HEADER}{self.text.stubs}" + ("" if inputs is None else "inputs: dict[str, Any]\n")

        async def start(session: AsyncMontySession) -> Any:
            return await session.feed_start(
                self.text.source, inputs=None if inputs is None else {"inputs": inputs}, print_callback=self._print
            )

        return await self._guarded(
            start, os_policy=policy, type_check=True, type_check_stubs=stubs, type_check_format="concise"
        )

    async def next(self, before: Slice, outcomes: Mapping[int, Outcome]) -> Slice:
        """From where it waited."""
        if digest_of(before.state) != before.digest:
            return Slice(ended="failed", told=(
                "the program can't go on: a secret of this machine was among its values, and those may not be written "
                "down; leave secrets to the tools"
            ))  # fmt: skip

        async def start(session: AsyncMontySession) -> Any:
            snapshot: Any = await session.load_snapshot(before.state, print_callback=self._print)
            return await snapshot.resume({id: _answer(outcome) for id, outcome in outcomes.items()})

        return await self._guarded(start)

    async def _guarded(self, start: Any, **settings: Any) -> Slice:
        """Run it, whatever it does. Raises SandboxMissing."""
        session_of = self._session(settings)
        from pydantic_monty import (
            MontyCrashedError,
            MontyError,
            MontyRuntimeError,
            MontySyntaxError,
            MontyTypingError,
        )

        limits = self.text.limits
        try:
            async with asyncio.timeout(limits.seconds + GRACE):
                async with session_of as session:
                    return await self._run(await start(session))
        except MontyTypingError as error:
            return self._ended("refused", problems(str(error), self.text.source, self.text.stubs))
        except MontySyntaxError as error:
            return self._ended("refused", traced(error.display()))
        except MontyRuntimeError as error:
            return self._ended("failed", limited(str(error), limits, ROUNDS) or traced(error.display()))
        except (MontyCrashedError, TimeoutError):
            return self._ended(
                "failed", f"the program was ended: it took more than {limits.seconds:g} s, or all memory"
            )
        except (MontyError, UnicodeError, RecursionError) as error:
            return self._ended("failed", f"the program can't be run: {error}")
        except _TooMuch as error:
            return self._ended("failed", str(error))

    def _session(self, settings: Mapping[str, Any]) -> AbstractAsyncContextManager[AsyncMontySession]:
        wall = choose("python")
        if not isinstance(wall, Monty):
            raise SandboxMissing("programs run in the embedded Python: pip install 'weft[sandbox]'")
        limits = self.text.limits
        job = Job(python=self.text.source, resources=Resources(memory=limits.memory, seconds=limits.seconds))
        return wall.session(job, rounds=ROUNDS, script_name=NAME, **settings)

    async def _run(self, snapshot: Any) -> Slice:
        """Until all of it waits, or it ends."""
        from pydantic_monty import AsyncFunctionSnapshot, AsyncNameLookupSnapshot, MontyComplete

        while True:
            if isinstance(snapshot, MontyComplete):
                return self._ended("done", value=shown(snapshot.output))
            if isinstance(snapshot, AsyncFunctionSnapshot):
                if snapshot.is_os_function:
                    snapshot = await self._asked(snapshot)
                else:
                    snapshot = await snapshot.resume(self._call(snapshot, snapshot.function_name))
            elif isinstance(snapshot, AsyncNameLookupSnapshot):
                known = snapshot.variable_name in self.text.names and snapshot.object_id is None
                value = {"value": _function(snapshot.variable_name)} if known else {}
                snapshot = await snapshot.resume(**value)
            else:
                return self._waiting(snapshot.dump())

    async def _asked(self, snapshot: Any) -> Any:
        """It asks the system for something: of that there is a clock, and sleep."""
        name, args = snapshot.function_name, snapshot.args
        if name == "time.time":
            return await snapshot.resume({"return_value": self.at})
        if name == "datetime.now":
            zone = args[0] if args else None
            moment = datetime.fromtimestamp(self.at, UTC)
            moment = moment.replace(tzinfo=None) if zone is None else moment.astimezone(zone)
            return await snapshot.resume({"return_value": moment})
        if name == "date.today":
            return await snapshot.resume({"return_value": datetime.fromtimestamp(self.at, UTC).date()})
        if name == "time.sleep":
            told = "time.sleep() would stop all of the program: use await asyncio.sleep(seconds)"
            return await snapshot.resume({"exception": RuntimeError(told)})
        if "sleep" in name:
            return await snapshot.resume(self._call(snapshot, SLEEP))
        return await snapshot.resume_not_handled()

    def _call(self, snapshot: Any, name: str) -> Any:
        """It calls something: what it gets at once, mostly a promise."""
        if name != SLEEP and name not in self.text.names:
            return {"exception": NameError(f"name {name!r} is not defined")}
        if self.left < 1:
            line, most = self._line(snapshot), self.text.limits.calls
            raise _TooMuch(f"the program was ended in line {line}: it made more than {most} calls")
        try:
            args, kwargs = plain(snapshot.args), plain(snapshot.kwargs)
        except NotPlain as error:
            return {"exception": TypeError(f"{name}(): {error}")}
        self.left -= 1
        self.called.append(Called(snapshot.call_id, name, args, kwargs, self._line(snapshot)))
        return {"future": ...}

    def _line(self, snapshot: Any) -> int:
        return self.text.source.encode("utf-8", "replace")[: snapshot.position.start].count(b"\n") + 1

    def _print(self, stream: str, text: str) -> None:
        kept = text[: self.room]
        self.room -= len(kept)
        self.dropped += len(text) - len(kept)
        if kept:
            self.lines.append(kept)

    def _waiting(self, state: bytes) -> Slice:
        if len(state) > self.space:
            most = self.text.limits.kept / 2**20
            raise _TooMuch(
                f"the program was ended: it waited with {len(state) / 2**20:,.1f} MB of values, and all its waits "
                f"together may write down {most:,.0f} MB; keep less in variables while you await"
            )
        return Slice(
            printed="".join(self.lines), dropped=self.dropped, calls=tuple(self.called), state=state,
            digest=digest_of(state),
        )  # fmt: skip

    def _ended(self, how: Literal["done", "refused", "failed"], told: str = "", value: Any = None) -> Slice:
        return Slice(
            printed="".join(self.lines), dropped=self.dropped, calls=tuple(self.called), ended=how, told=told,
            value=value,
        )  # fmt: skip


class _TooMuch(Exception):
    """Raised out of a program that makes too many calls, or holds too much."""


def _answer(outcome: Outcome) -> Any:
    return {"return_value": outcome[1]} if outcome[0] == "value" else {"exception": RuntimeError(outcome[1])}


def _function(name: str) -> Any:
    """What stands for a tool among a program's values."""

    def tool() -> None: ...

    tool.__name__ = tool.__qualname__ = name
    return tool
