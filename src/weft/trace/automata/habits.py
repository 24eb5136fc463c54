"""What is usual of calls: an automaton of their symbols, and how much evidence of anything wrong usual runs give.

habits = Habits()
for run in runs: habits.feed(run)           # each a list of calls, seen once
habits.signs(run), habits.score(run)        # what may be wrong with it, and how unusual it is by all signs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from weft.core.errors import BadInput
from weft.trace.automata.learner import Learner
from weft.trace.automata.signs import Places, Sign, Tails, places_of, signs, tails_of
from weft.trace.automata.symbols import Call, symbols_of_calls

FIRST, EVERY = 200, 20
"""So many runs are judged before they are learnt; after these, one of so many."""


class Habits:
    """Learns from runs as lists of calls. `learner`: learns from their symbols."""

    def __init__(self, learner: Learner | None = None) -> None:
        self.learner = learner or Learner()
        self.places = Places()
        self.tails = Tails()

    @classmethod
    def of(cls, runs: Sequence[Sequence[Call]], new: Callable[[], Learner] = Learner) -> Habits:
        """From few runs, which are kept meanwhile: all are learnt at once, and each is judged by what was learnt of
        others. `new`: makes a learner."""

        def learn(some: Sequence[Sequence[Call]]) -> Learner:
            return new().feed_at_once([symbols_of_calls(run) for run in some])

        found = cls(learn(runs))
        found.places = places_of(runs)
        found.tails = tails_of(runs, lambda some: learn(some).latest.teller())
        return found

    def feed(self, calls: Sequence[Call]) -> None:
        """Learn from one run."""
        seen = self.learner.seen
        if seen and (seen < FIRST or seen % EVERY == 0):
            self.tails.note(self.signs(calls))
        self.learner.feed(symbols_of_calls(calls))
        self.places.note(calls)

    def signs(self, calls: Sequence[Call]) -> list[Sign]:
        """Of each kind, the evidence in a run; `tails.rare(sign)` is how often usual runs give as much."""
        return signs(calls, self.learner.latest.teller(), self.places)

    def score(self, calls: Sequence[Call]) -> float:
        """How unusual a run is, by all signs, in bits (`Tails.score`)."""
        return self.tails.score(self.signs(calls))

    def dump(self) -> bytes:
        return msgspec.msgpack.encode((self.learner.dump(), self.places, self.tails))

    @classmethod
    def load(cls, data: bytes) -> Habits:
        """Raises BadInput if these are no habits' `dump`."""
        try:
            learner, places, tails = msgspec.msgpack.decode(data, type=tuple[bytes, Places, Tails])
        except msgspec.MsgspecError as error:
            raise BadInput(f"this is no learner of calls that was kept by this version of Weft: {error}") from None
        found = cls(Learner.load(learner))
        found.places, found.tails = places, tails
        return found
