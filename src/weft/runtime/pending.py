"""An effect that a body has issued and not heard of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weft.core.codec import encode_args
from weft.core.label import PUBLIC, Label
from weft.core.sealed import SEAL, held
from weft.runtime.loop import NOWHERE, Timer

if TYPE_CHECKING:
    from weft.core.capability import Request
    from weft.core.needs import Need
    from weft.core.resources import Usage
    from weft.runtime.ledger import Bill
    from weft.runtime.process import Process
    from weft.runtime.protect import Protected
    from weft.runtime.rights import Holder
    from weft.runtime.turns import Turn

PARKABLE = frozenset({"timer", "sleep", "receive", "event", "child", "ask"})
"""Kinds of effects that need no memory to wait for."""

NOTHING = encode_args((), {}, "")
"""No arguments."""


class Stopped(BaseException):
    """Unwinds a body that is being put away; never seen by a user's code that behaves."""


class Load:
    """What an effect carries."""

    __slots__ = ("brought", "given", "kept", "sealed", "took")

    def __init__(self, given: Label) -> None:
        self.given = given
        self.brought: Label = PUBLIC
        """What its outcome carries besides."""
        self.sealed = False
        """Its result reaches the body as a handle."""
        self.took: dict[Request, str] = {}
        self.kept: dict[Request, str] = {}
        """What a step took where in its middle, and what it was kept from taking where."""


class Pending:
    __slots__ = (
        "args", "attempts", "bill", "by", "deadline", "future", "holder", "host", "issued", "kind", "launch", "line",
        "load", "name", "noted", "number", "parkable", "place", "price", "protected", "started", "timer", "turn",
    )  # fmt: skip

    action: str | None = None
    """What it does in the eyes of a capability."""
    needs: tuple[Need, ...] = ()
    """What must be allowed besides its own action."""
    version: str = ""
    """Digest of the code that would be run."""
    unseen = False
    """It is carried out where nobody watches what it does."""
    impact: str = ""
    """What it leaves behind outside, if it is a step."""
    role: str = ""
    """What it is for who reads the run, if it is a step."""
    spent: dict[str, float] | None = None
    """What it said that it spent, if it is a step."""
    usage: Usage | None = None
    """What the commands that it started took of the machine, if it is a step."""
    future: asyncio.Future[Any]
    """What the body awaits (a timer has a callback instead)."""

    def __init__(self, kind: str, name: str, place: str, args: bytes, launch: Launch) -> None:
        self.price: dict[str, float] = {}
        """The most that it may cost a budget."""
        self.number = 0
        """Given when it is enlisted."""
        self.kind = kind
        self.name = name
        self.place = place
        self.args = args
        self.launch = launch
        """Begins the work on the host."""
        self.timer: Timer | None = None
        self.deadline: float | None = None
        self.host: Any = None
        """Whatever works on it; has `cancel()`."""
        self.issued = 0.0
        self.line = NOWHERE
        """Its line of control, and the effect before it there (`runtime.loop.follow`)."""
        self.started = 0.0
        self.attempts = 1
        self.noted = False
        """A Started record was written."""
        self.holder: Holder | None = None
        """What `with weft.grant(...)` left of the rights where it was issued."""
        self.protected: Protected | None = None
        """Its way through `runtime.protect`, if it is not free."""
        self.bill: Bill | None = None
        """What its budget was charged."""
        self.parkable = kind in PARKABLE
        """Its process may leave memory while it waits for this."""
        self.by: tuple[int, ...] = ()
        """Capabilities that allowed or refused it."""
        self.load: Load | None = Load(held(args)) if SEAL in args else None
        """What it carries, if there are labels."""
        self.turn: Turn | None = None
        """When its effects may take place, if it is a step in an operation on shared memory."""

    @property
    def label(self) -> Label:
        """What its arguments carry: the handles in them, and what the process had seen when it was issued."""
        return PUBLIC if self.load is None else self.load.given

    @property
    def full(self) -> Label:
        """That, and what it has brought in."""
        return PUBLIC if self.load is None else self.load.given | self.load.brought

    def laden(self) -> Load:
        """What it carries, to be added to."""
        if self.load is None:
            self.load = Load(PUBLIC)
        return self.load

    def brings(self, label: Label) -> None:
        """Its outcome carries this, too."""
        if label is not PUBLIC:
            self.laden().brought |= label

    def is_unknown(self, process: Process) -> bool:
        """Whether it had begun when its runtime died, and is not made again: there is nothing left to decide."""
        return False


Launch = Callable[[Pending], None]
Also = Callable[[Any], None]
"""Writes that belong to a delivery and travel in its transaction; called with the result."""
