"""What was learnt, asked about: how surprising an event is, and what was expected in its place.

The probability of a symbol is that of the state (falling back on the contexts where it has seen little), mixed with
that of the contexts alone. How much either counts is learnt state by state from how well it told the stream before
learning from it: a state's own weight is the expected number of times that it was the better teller (online
expectation maximisation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from weft.core.errors import BadInput
from weft.trace.automata.contexts import Context, Contexts, discounted, probability
from weft.trace.automata.evidence import END

NOWHERE = -1
"""In `Automaton.weights`: where the walk has left the automaton."""
BUCKETS = 80
PER_BIT = 4
FINISH = "(end)"
ANOTHER = "(another)"
"""Stands for all symbols beyond the most that are told apart."""
UNKNOWN = "(unknown)"


class Weights(msgspec.Struct):
    """How often the state, and how often the contexts, told better; once each before anything was seen."""

    state: float = 1.0
    contexts: float = 1.0

    def add(self, other: Weights) -> None:
        self.state += other.state - 1
        self.contexts += other.contexts - 1


UNWEIGHED = Weights()


class Usual(msgspec.Struct):
    """How surprising the stream was before it was learnt, events and whole runs: histograms, in quarters of a bit."""

    events: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)
    runs: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)

    def note(self, bits: Sequence[float]) -> None:
        if bits:
            for one in bits:
                self.events[_bucket(one)] += 1
            self.runs[_bucket(scored(bits))] += 1

    def fade(self) -> None:
        """What was surprising to a younger learner counts half."""
        self.events = [count // 2 for count in self.events]
        self.runs = [count // 2 for count in self.runs]

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
        has a small probability everywhere. Raises BadInput if the run is not made of texts."""
        return self.steps(self._coded(told(run)))

    def teller(self) -> Callable[[Sequence[str]], list[float]]:
        """`surprise`, for many runs that are nearly the same: what it has told once it remembers."""
        depth = self.contexts.depth
        memory: dict[tuple[int, tuple[int, ...], int], tuple[float, int]] = {}

        def bits(run: Sequence[str]) -> list[float]:
            vertex, before, found = 0, (END,) * depth, []
            for symbol in self._coded(run):
                key = vertex, before, symbol
                if key not in memory:
                    ended = [*(one for one in before if one != END), symbol]
                    mixed, _ = self._mixed(symbol, vertex, self.contexts.at(ended, len(ended) - 1))
                    memory[key] = -math.log2(mixed), self._next(vertex, symbol)
                told, vertex = memory[key]
                before = (*before[1:], symbol)
                found.append(told)
            return found

        return bits

    def score(self, run: Iterable[str]) -> float:
        """How unusual a run is: the mean of its events' surprise, and half of the worst of them, in bits."""
        return scored(self.surprise(run))

    def probability(self, run: Iterable[str]) -> float:
        """Of the whole run, its end included."""
        return float(2.0 ** -math.fsum(self.surprise(run)))

    def rarity(self, bits: float) -> float:
        """The share of the stream's events that surprised as much, counting this one: 1 / (n + 1) at least."""
        return _beyond(self.usual.events, bits)

    def rarity_of_run(self, score: float) -> float:
        """The share of the stream's runs that scored as much, counting this one."""
        return _beyond(self.usual.runs, score)

    def departures(self, run: Iterable[str], rare: float = 0.002, least: float = 6.0) -> list[Departure]:
        """The events that surprise by at least `least` bits and as at most a share of `rare` of the stream's did."""
        events = told(run)
        coded = self._coded(events)
        return [
            Departure(at, symbol, bits, self.rarity(bits), self._expected(coded[:at]))
            for at, (symbol, bits) in enumerate(zip([*events, FINISH], self.steps(coded), strict=True))
            if bits >= least and self.rarity(bits) <= rare
        ]

    def expected(self, before: Iterable[str]) -> list[tuple[str, float]]:
        """The likeliest symbols after these, with their probabilities, until 0.95 of it is told."""
        return self._expected(self._coded(told(before))[:-1])

    def _expected(self, before: Sequence[int], share: float = 0.95) -> list[tuple[str, float]]:
        vertex = 0
        for symbol in before:
            vertex = self._next(vertex, symbol)
        contexts = self.contexts.at([*before, END], len(before))
        symbols = {symbol for context in contexts for symbol in context.next}
        symbols |= {*self.vertices[vertex].next} if vertex != NOWHERE else set()
        likely = sorted(((self._mixed(symbol, vertex, contexts)[0], symbol) for symbol in symbols), reverse=True)
        found, total = [], 0.0
        for one, symbol in likely:
            found.append((self._name(symbol), one))
            total += one
            if total >= share:
                break
        return found

    def steps(self, ended: Sequence[int], learn: bool = False, less: int = 0) -> list[float]:
        """Bits of each symbol of a coded sequence that ends with END. `learn`: the weights learn from it. `less` 1: it
        has been learnt, and each event is told by all others."""
        vertex, found = 0, []
        for at, symbol in enumerate(ended):
            mixed, share = self._mixed(symbol, vertex, self.contexts.at(ended, at), less)
            found.append(-math.log2(mixed))
            if learn:
                weights = self.weights.setdefault(vertex, Weights())
                weights.state += share
                weights.contexts += 1 - share
            vertex = self._next(vertex, symbol)
        return found

    def _mixed(self, symbol: int, vertex: int, contexts: Sequence[Context], less: int = 0) -> tuple[float, float]:
        """The probability of a symbol, and the state's share in it."""
        own = alone = probability(symbol, contexts, 1 / (len(self.alphabet) + 2), less)
        if vertex != NOWHERE:
            found = self.vertices[vertex]
            own = discounted(symbol, found.passed, found.next, alone, less)
        weights = self.weights.get(vertex, UNWEIGHED)
        state, rest = weights.state * own, weights.contexts * alone
        return (state + rest) / (weights.state + weights.contexts), state / (state + rest)

    def _next(self, vertex: int, symbol: int) -> int:
        return NOWHERE if vertex == NOWHERE else self.vertices[vertex].edges.get(symbol, NOWHERE)

    def _coded(self, run: Sequence[str]) -> list[int]:
        codes = {symbol: code for code, symbol in enumerate(self.alphabet)}
        other = codes.get(ANOTHER, len(codes))
        return [*(codes.get(symbol, other) for symbol in run), END]

    def _name(self, code: int) -> str:
        return FINISH if code == END else self.alphabet[code] if code < len(self.alphabet) else UNKNOWN

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def load(cls, data: bytes) -> Automaton:
        """Raises BadInput if this is no automaton's `dump`."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise BadInput(f"this is no automaton that was kept by this version of Weft: {error}") from None


def told(run: Iterable[str]) -> list[str]:
    """The symbols of a run. Raises BadInput if they are no texts."""
    if isinstance(run, str):
        raise BadInput("a run is several symbols, each a text; this is one text: put it into a list")
    symbols = [*run]
    for symbol in symbols:
        if not isinstance(symbol, str):
            raise BadInput(f"a symbol is a text, not {symbol!r}")
    return symbols


def scored(bits: Sequence[float]) -> float:
    """`Automaton.score` of a run's bits."""
    return math.fsum(bits) / len(bits) + max(bits) / 2


def _bucket(bits: float) -> int:
    return min(BUCKETS - 1, int(bits * PER_BIT))


def _beyond(counts: Sequence[int], bits: float) -> float:
    return (sum(counts[_bucket(bits) :]) + 1) / (sum(counts) + 1)
