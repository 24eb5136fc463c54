"""What was learnt, asked about: how surprising an event is, and what was expected in its place.

The probability of a symbol is that of the state (falling back on the contexts where it has seen little), mixed with
that of the contexts alone. How much either counts is learnt state by state from how well it told the stream before
learning from it: a state's own weight is the expected number of times that it was the better teller (online
expectation maximisation).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from weft.core.errors import BadInput
from weft.trace.automata.contexts import Contexts, discounted, probability
from weft.trace.automata.evidence import END

NOWHERE = -1
"""In `Automaton.weights`: where the walk has left the automaton."""
BUCKETS = 80
PER_BIT = 4
FINISH = "(end)"


class Weights(msgspec.Struct):
    state: float = 1.0
    contexts: float = 1.0


class Usual(msgspec.Struct):
    """How surprising the stream was while it was learnt: histograms, in quarters of a bit."""

    events: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)
    runs: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)

    def note(self, bits: Sequence[float]) -> None:
        if bits:
            for one in bits:
                self.events[_bucket(one)] += 1
            self.runs[_bucket(math.fsum(bits) / len(bits))] += 1

    def add(self, other: Usual) -> None:
        self.events = [mine + theirs for mine, theirs in zip(self.events, other.events, strict=True)]
        self.runs = [mine + theirs for mine, theirs in zip(self.runs, other.runs, strict=True)]


class Vertex(msgspec.Struct, frozen=True):
    """A state: how often it was passed, what came next, and where each symbol leads."""

    passed: int
    next: dict[int, int]
    edges: dict[int, int]


class Departure(msgspec.Struct, frozen=True):
    """A place where a run left what is known. `at`: the event, from 0 on; the number of events stands for its end.
    `expected`: what would not have surprised, with its probability, the likeliest first. `bits`: the surprise.
    `rare`: the share of events of the stream that surprised as much: about how often this is a false alarm."""

    at: int
    symbol: str
    bits: float
    rare: float
    expected: list[tuple[str, float]]


class Automaton(msgspec.Struct):
    """A probabilistic deterministic automaton, with contexts to fall back on. Made by `Learner.model`."""

    alphabet: list[str]
    vertices: list[Vertex]
    contexts: Contexts
    weights: dict[int, Weights]
    usual: Usual

    def surprise(self, run: Iterable[str]) -> list[float]:
        """Bits, -log2 of the probability, of each event, and of the end after them. Never infinite: an unknown symbol
        has a small probability everywhere."""
        return self.steps([*self._coded(run), END])

    def score(self, run: Iterable[str]) -> float:
        """How unusual a run is: the mean of its events' surprise, and of the worst of them, in bits."""
        bits = self.surprise(run)
        return math.fsum(bits) / len(bits) + max(bits) / 2

    def probability(self, run: Iterable[str]) -> float:
        """Of the whole run, its end included."""
        return float(2.0 ** -math.fsum(self.surprise(run)))

    def rarity(self, bits: float) -> float:
        """The share of the stream's events that surprised as much, counting this one: 1 / (n + 1) at least."""
        beyond = sum(self.usual.events[_bucket(bits) :])
        return (beyond + 1) / (sum(self.usual.events) + 1)

    def departures(self, run: Iterable[str], rare: float = 0.002, least: float = 6.0) -> list[Departure]:
        """The events that surprise by at least `least` bits and as at most a share of `rare` of the stream's did."""
        coded = [*self._coded(run), END]
        names = [*run] if isinstance(run, (list, tuple)) else [self._name(code) for code in coded[:-1]]
        found = []
        for at, bits in enumerate(self.steps(coded)):
            rarity = self.rarity(bits)
            if bits >= least and rarity <= rare:
                symbol = names[at] if at < len(names) else FINISH
                found.append(Departure(at, symbol, bits, rarity, self.expected(coded[:at])))
        return found

    def expected(self, before: Sequence[int], share: float = 0.95) -> list[tuple[str, float]]:
        """The likeliest symbols after these, until `share` of the probability is told."""
        vertex = self._walked(before)
        contexts = self.contexts.at([*before, END], len(before))
        symbols = {symbol for context in contexts for symbol in context.next}
        symbols |= {*self.vertices[vertex].next} if vertex != NOWHERE else set()
        told = sorted(((self._probability(symbol, vertex, contexts), symbol) for symbol in symbols), reverse=True)
        found, total = [], 0.0
        for one, symbol in told:
            found.append((self._name(symbol), one))
            total += one
            if total >= share:
                break
        return found

    def steps(self, ended: Sequence[int], learn: bool = False) -> list[float]:
        """Bits of each symbol of a coded sequence that ends with END. `learn`: the weights learn from it."""
        vertex, found = 0, []
        for at, symbol in enumerate(ended):
            contexts = self.contexts.at(ended, at)
            alone, own = self._told(symbol, vertex, contexts)
            weights = self.weights.get(vertex)
            if weights is None:
                weights = self.weights[vertex] = Weights()
            mixed = weights.state * own + weights.contexts * alone
            found.append(-math.log2(mixed / (weights.state + weights.contexts)))
            if learn:
                share = weights.state * own / mixed
                weights.state += share
                weights.contexts += 1 - share
            vertex = self._next(vertex, symbol)
        return found

    def _probability(self, symbol: int, vertex: int, contexts: Sequence[object]) -> float:
        alone, own = self._told(symbol, vertex, contexts)
        weights = self.weights.get(vertex) or Weights()
        return (weights.state * own + weights.contexts * alone) / (weights.state + weights.contexts)

    def _told(self, symbol: int, vertex: int, contexts: Sequence[object]) -> tuple[float, float]:
        alone = probability(symbol, contexts, 1 / (len(self.alphabet) + 2))  # type: ignore[arg-type]
        if vertex == NOWHERE:
            return alone, alone
        found = self.vertices[vertex]
        return alone, discounted(symbol, found.passed, found.next, alone)

    def _walked(self, before: Sequence[int]) -> int:
        vertex = 0
        for symbol in before:
            vertex = self._next(vertex, symbol)
        return vertex

    def _next(self, vertex: int, symbol: int) -> int:
        return NOWHERE if vertex == NOWHERE else self.vertices[vertex].edges.get(symbol, NOWHERE)

    def _coded(self, run: Iterable[str]) -> list[int]:
        if isinstance(run, str):
            raise BadInput("a run is several symbols, each a text; this is one text: put it into a list")
        codes = self._codes()
        return [codes.get(symbol, len(codes)) for symbol in run]

    def _codes(self) -> dict[str, int]:
        return {symbol: code for code, symbol in enumerate(self.alphabet)}

    def _name(self, code: int) -> str:
        return FINISH if code == END else self.alphabet[code] if code < len(self.alphabet) else "(unknown)"

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def load(cls, data: bytes) -> Automaton:
        """Raises BadInput if this is no automaton's `dump`."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise BadInput(f"this is no automaton that was kept by this version of Weft: {error}") from None


def _bucket(bits: float) -> int:
    return min(BUCKETS - 1, int(bits * PER_BIT))
