"""Learning from a stream: states, edges between them, and evidence that every edge keeps for itself.

After "PAC learning PDFA from data streams" (arXiv 2604.02244, FlexFringe): red states are fixed, blue ones are judged
by sketches of their futures, and each batch of the stream may undo a merge that more evidence speaks against. Here a
blue state is an edge that leads nowhere yet. A sequence walks the automaton; each edge that it takes notes what comes
next. After each batch

1. an edge whose evidence has grown, and now differs from that of the rest of its state, leaves it again;
2. an edge with enough evidence that leads nowhere, the most frequent first, is led to the state that it does not differ
   from and is likest to; if it differs from all, it becomes a state of its own.

The evidence of a state is the sum of its edges', so nothing of the stream is kept. Memory is bounded by the number of
states times the alphabet; of edges that lead nowhere, the least frequent are forgotten when there are too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.trace.automata.contexts import Contexts
from weft.trace.automata.evidence import (
    END,
    ENDED,
    ChiSquare,
    Evidence,
    Test,
    columns_of,
    hash_of,
    likeness,
    nothing,
)
from weft.trace.automata.model import ANOTHER, Automaton, Usual, Vertex, Weights, told

FIRST = 25
"""Sequences of the first batch; each is twice as long as the one before, up to `batch`."""
AGAIN = 1.3
"""An edge is tested again when its evidence has grown so much."""
DEEPEST = 32
"""Symbols that a context may look back: contexts are nested so deep."""
WEIGHED = 1000
"""Sequences from which on only every fourth weighs the state against the contexts, and is counted as usual."""


class Edge(msgspec.Struct):
    """`target`: the state it leads to; None: it leads nowhere yet. `own`: the state was made for it."""

    evidence: Evidence
    target: int | None = None
    own: bool = False
    tested: int = 0


class State(msgspec.Struct):
    evidence: Evidence
    edges: dict[int, Edge] = {}


class Walk(msgspec.Struct):
    """A sequence on its way: `edge`, the one that it stopped after, before its event `at`."""

    ended: list[int]
    columns: list[tuple[int, ...]]
    at: int = 0
    edge: Edge | None = None


class Learner:
    """Learns what is usual from sequences of symbols, each seen once.

    `futures`: how many symbols ahead the evidence looks. `width`: columns of a sketch. `least`: sequences that must
    have taken an edge before it is led anywhere. `batch`: sequences between two revisions. `test`: when two places
    can't be the same state. `states`, `symbols`: at most so many; what comes after is led to the likest state, or is
    one symbol. `edges`: about so many that lead nowhere are kept. `depth`, `grow`: as of `Contexts`.
    """

    def __init__(
        self,
        *,
        futures: int = 4,
        width: int = 20,
        least: int = 40,
        batch: int = 500,
        test: Test | None = None,
        states: int = 1000,
        symbols: int = 2000,
        edges: int = 10_000,
        depth: int = 4,
        grow: int = 20,
    ) -> None:
        wrong = {k: v for k, v in locals().items() if k not in ("self", "test") and (type(v) is not int or v < 1)}
        if wrong:
            name, value = wrong.popitem()
            raise BadInput(f"{name} of a learner is a whole number from 1 on, not {value!r}")
        if depth > DEEPEST:
            raise BadInput(f"depth of a learner is at most {DEEPEST}, not {depth}")
        self.futures, self.width, self.least, self.batch = futures, width, least, batch
        self.test: Test = test or ChiSquare()
        self.most_states, self.most_symbols, self.most_edges = states, symbols, edges
        self.alphabet: dict[str, int] = {}
        self.hashes: list[int] = []
        self.states = [State(nothing(futures, width))]
        self.contexts = Contexts(depth, grow)
        self.weights: dict[int, Weights] = {}
        self.usual = Usual()
        self.seen = 0
        self.undone = 0
        self.peak = 1
        """The most states and edges that were alive at once."""
        self._since = 0
        self.latest = self._now()
        """As of the last revision, but for contexts and weights, which are always of now."""

    def feed(self, sequence: Iterable[str]) -> None:
        """Learn from one sequence. Raises BadInput if it is not made of texts."""
        ended = self._coded(sequence)
        if self.seen and (self.seen < WEIGHED or self.seen % 4 == 0):
            self.usual.note(self.latest.steps(ended, learn=True))
        self.contexts.note(ended)
        self._walk(Walk(ended, self._columns(ended)))
        self.seen += 1
        self._since += 1
        if self.seen & (self.seen - 1) == 0:
            self.usual.fade()
        if self._since >= min(self.batch, max(FIRST, self.seen // 2)):
            self.revise()

    def feed_all(self, sequences: Iterable[Iterable[str]]) -> Learner:
        """Learn from each; gives itself back."""
        for sequence in sequences:
            self.feed(sequence)
        return self

    def feed_at_once(self, sequences: Iterable[Iterable[str]]) -> Learner:
        """Learn from all of these as one batch, as it pays for few; gives itself back. They are kept meanwhile: each
        goes on from where it stopped when a revision has made a state there. The weights learn from how well each event
        is told by all others."""
        coded = [self._coded(sequence) for sequence in sequences]
        walks = [Walk(ended, self._columns(ended)) for ended in coded]
        for ended in coded:
            self.contexts.note(ended)
        while walks:
            walks = [walk for walk in walks if not self._walk(walk)]
            self.revise()
            if all(walk.edge is None or walk.edge.target is None for walk in walks):
                break
        self.seen += len(coded)
        for ended in coded:
            self.usual.note(self.latest.steps(ended, learn=True, less=1))
        return self

    def model(self) -> Automaton:
        """What has been learnt so far, as a copy: the learner may go on."""
        self.revise()
        return Automaton.load(self._now().dump())

    def _now(self) -> Automaton:
        vertices = [
            Vertex(
                state.evidence.passed,
                {**state.evidence.next},
                {symbol: edge.target for symbol, edge in state.edges.items() if edge.target is not None},
            )
            for state in self.states
        ]
        return Automaton([*self.alphabet], vertices, self.contexts, self.weights, self.usual)

    def _coded(self, sequence: Iterable[str]) -> list[int]:
        coded = []
        for symbol in told(sequence):
            code = self.alphabet.get(symbol)
            coded.append(self.code(symbol) if code is None else code)
        return [*coded, END]

    def code(self, symbol: str) -> int:
        """Its number in the alphabet, a new one if it has none and there is room."""
        if symbol not in self.alphabet and len(self.alphabet) >= self.most_symbols:
            symbol = ANOTHER
        code = self.alphabet.setdefault(symbol, len(self.alphabet))
        if code == len(self.hashes):
            self.hashes.append(hash_of(symbol))
        return code

    def _columns(self, ended: Sequence[int]) -> list[tuple[int, ...]]:
        return columns_of([*(self.hashes[symbol] for symbol in ended[:-1]), ENDED], self.futures, self.width)

    def _walk(self, walk: Walk) -> bool:
        """Through the automaton, as far as it goes, noting what comes next. Whether it came to its end."""
        ended, columns = walk.ended, walk.columns
        state = self.states[0]
        if walk.edge is None:
            state.evidence.note(ended[0], columns[0])
        elif walk.edge.target is None:
            return False
        else:
            state = self.states[walk.edge.target]
        for at in range(walk.at, len(ended) - 1):
            edge = state.edges.get(ended[at])
            if edge is None:
                edge = state.edges[ended[at]] = Edge(nothing(self.futures, self.width))
            edge.evidence.note(ended[at + 1], columns[at + 1])
            if edge.target is None:
                walk.edge, walk.at = edge, at + 1
                return False
            state = self.states[edge.target]
            state.evidence.note(ended[at + 1], columns[at + 1])
        return True

    def revise(self) -> None:
        """What a batch of the stream changes."""
        self._since = 0
        self.peak = max(self.peak, self._alive())
        for state in self.states:
            for edge in state.edges.values():
                self._doubt(edge)
        nowhere = [(edge, s, symbol) for s in self.states for symbol, edge in s.edges.items() if edge.target is None]
        nowhere.sort(key=lambda found: -found[0].evidence.passed)
        for number, (edge, state, symbol) in enumerate(nowhere):
            if edge.evidence.passed >= self.least:
                self._lead(edge)
            elif number >= self.most_edges:
                del state.edges[symbol]
        self.peak = max(self.peak, self._alive())
        self.latest = self._now()

    def _alive(self) -> int:
        return len(self.states) + sum(len(state.edges) for state in self.states)

    def _doubt(self, edge: Edge) -> None:
        """Undo a merge that the evidence now speaks against."""
        if edge.target is None or edge.own or edge.evidence.passed < AGAIN * edge.tested:
            return
        edge.tested = edge.evidence.passed
        state = self.states[edge.target]
        state.evidence.add(edge.evidence, -1)
        if state.evidence.passed > self.least and self.test.differ(edge.evidence, state.evidence):
            edge.target = None
            self.undone += 1
        else:
            state.evidence.add(edge.evidence)

    def _lead(self, edge: Edge) -> None:
        """To the state that it is likest to, or to a new one."""
        edge.tested = edge.evidence.passed
        full = len(self.states) >= self.most_states
        fitting = [
            (likeness(edge.evidence, state.evidence), -number)
            for number, state in enumerate(self.states)
            if state.evidence.passed >= self.least and (full or not self.test.differ(edge.evidence, state.evidence))
        ]
        if fitting:
            edge.target = -max(fitting)[1]
        else:
            edge.target, edge.own = len(self.states), True
            self.states.append(State(nothing(self.futures, self.width)))
        self.states[edge.target].evidence.add(edge.evidence)

    # --- kept ---------------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """All that it knows, so that another process can go on (`Learner.load`)."""
        return msgspec.msgpack.encode({name: getattr(self, name) for name in _KEPT})

    @classmethod
    def load(cls, data: bytes, test: Test | None = None) -> Learner:
        """Raises BadInput if this is no learner's `dump`. The test is not kept: give it again if it is another."""
        try:
            found = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])
            learner = cls(test=test)
            for name, kind in _KEPT.items():
                setattr(learner, name, msgspec.msgpack.decode(found[name], type=kind))
            learner.latest = learner._now()
        except (msgspec.MsgspecError, KeyError) as error:
            raise BadInput(f"this is no learner that was kept by this version of Weft: {error}") from None
        return learner


_KEPT: dict[str, Any] = {
    "futures": int, "width": int, "least": int, "batch": int,
    "most_states": int, "most_symbols": int, "most_edges": int,
    "alphabet": dict[str, int], "hashes": list[int], "states": list[State], "contexts": Contexts,
    "weights": dict[int, Weights],
    "usual": Usual, "seen": int, "undone": int, "peak": int,
}  # fmt: skip
